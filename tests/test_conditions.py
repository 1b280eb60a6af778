"""Conditions: what they say of a lead, how long that stays so, and that SQL says the same of all leads."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlmodel import Session, select

from mebae.conditions import (
    All,
    Among,
    Any_,
    AtLeast,
    Compare,
    Condition,
    Did,
    Known,
    Like,
    Not,
    OlderThan,
    Pattern,
    SimpleFacts,
    Tagged,
    Verdict,
    evaluate,
    matches,
    patterns_of,
    refs_of,
)
from mebae.errors import BadInput
from mebae.store.conditions_sql import COLUMNS, to_sql
from mebae.store.database import Database
from mebae.store.facts import LeadFacts
from mebae.store.tables import Event, Lead
from mebae.timing import Duration

NOW = datetime(2026, 4, 10, 9, 0, tzinfo=UTC)
DAY = timedelta(days=1)
PRICING = Pattern(event="Page Viewed", where={"path": "/pricing"})


def holds(condition: Condition, /, **lead: object) -> bool:
    return evaluate(condition, SimpleFacts(NOW, lead)).value


def seen(*ago: timedelta, path: str = "/pricing") -> SimpleFacts:
    return SimpleFacts(NOW, events=[("Page Viewed", {"path": path}, NOW - span) for span in ago])


# What a condition says of one lead


def test_a_lead_without_the_attribute_meets_no_comparison_but_its_negation() -> None:
    for op in ("eq", "gt", "ge", "lt", "le"):
        assert not holds(Compare(op=op, ref="lead.seats", to=3))
    assert holds(Not(of=Compare(op="eq", ref="lead.seats", to=3)))
    assert holds(Not(of=Among(ref="lead.industry", to=("manufacturing",))))
    assert not holds(Like(ref="lead.title", to="*"))
    assert not holds(Known(ref="lead.title"))


@pytest.mark.parametrize(
    ("value", "to", "equal"),
    [
        (1, 1.0, True),
        (True, 1, False),
        (1, True, False),
        ("1", 1, False),
        (0, False, False),
        (True, True, True),
        ("A", "a", False),
    ],
)
def test_equality_is_of_the_same_kind(value: object, to: Any, equal: bool) -> None:
    assert holds(Compare(op="eq", ref="lead.x", to=to), x=value) is equal
    assert holds(Among(ref="lead.x", to=("other", to)), x=value) is equal
    assert matches(Pattern(event="E", where={"x": to}), "E", {"x": value}) is equal


def test_order_is_for_numbers_only() -> None:
    assert holds(Compare(op="ge", ref="lead.score", to=50), score=50)
    assert not holds(Compare(op="gt", ref="lead.score", to=50), score=50)
    assert not holds(Compare(op="gt", ref="lead.x", to=0), x=True)
    assert not holds(Compare(op="gt", ref="lead.x", to="a"), x="b")


def test_only_a_star_is_special_in_a_glob() -> None:
    assert holds(Like(ref="lead.title", to="*部長*"), title="営業部長代理")
    assert holds(Like(ref="lead.title", to="100%_[x]*"), title="100%_[x]\n!")
    assert not holds(Like(ref="lead.title", to="100%"), title="100 percent")
    assert not holds(Like(ref="lead.title", to="a.c"), title="abc")
    assert not holds(Like(ref="lead.title", to="*Manager"), title="sales manager")


def test_a_pattern_names_the_properties_that_matter() -> None:
    paper = Pattern(event="Content Downloaded", where={"content": ("whitepaper-*", "case"), "pages": 3})
    assert matches(paper, "Content Downloaded", {"content": "whitepaper-7", "pages": 3.0, "more": None})
    assert matches(paper, "Content Downloaded", {"content": "case", "pages": 3})
    assert not matches(paper, "Content Downloaded", {"content": "whitepaper-7"})
    assert not matches(paper, "Page Viewed", {"content": "whitepaper-7", "pages": 3})
    assert not matches(Pattern(event="E", where={"x": ()}), "E", {"x": 1})


def test_stages_have_the_order_that_the_model_gives_them() -> None:
    at_least = AtLeast(to="interest")
    assert [holds(at_least, stage=stage) for stage in ("awareness", "interest", "consideration", "?")] == [
        False,
        True,
        True,
        False,
    ]
    warm = SimpleFacts(NOW, {"stage": "hot"}, stages=("cold", "warm", "hot"))
    assert evaluate(AtLeast(to="warm"), warm).value
    assert not evaluate(AtLeast(to="interest"), warm).value


def test_known_means_there_and_not_empty() -> None:
    nothing: tuple[object, ...] = (None, "")
    something: tuple[object, ...] = (0, False, "a", [])
    assert not any(holds(Known(ref="lead.x"), x=value) for value in nothing)
    assert all(holds(Known(ref="lead.x"), x=value) for value in something)


def test_conditions_can_ask_what_started_the_journey() -> None:
    facts = SimpleFacts(NOW, entry={"content": "whitepaper-7"})
    assert evaluate(Like(ref="entry.content", to="whitepaper-*"), facts).value
    assert not evaluate(Known(ref="lead.content"), facts).value


def test_what_a_condition_looks_at() -> None:
    condition = All(
        of=(
            Compare(op="ge", ref="lead.score", to=50),
            Not(of=Any_(of=(Known(ref="entry.content"), Tagged(to="vip"), Did(pattern=PRICING)))),
            Compare(op="le", ref="lead.score", to=80),
            AtLeast(to="interest"),
        )
    )
    assert list(refs_of(condition)) == ["lead.score", "entry.content", "lead.tags", "lead.stage"]
    assert patterns_of(condition) == (PRICING,)


# How long it stays so


def test_two_visits_in_a_window_count_until_the_older_one_leaves_it() -> None:
    twice = Did(pattern=PRICING, times=2, within=Duration(days=7))
    assert evaluate(twice, seen(DAY, 5 * DAY, 6 * DAY)) == Verdict(True, NOW - 5 * DAY + 7 * DAY)
    assert evaluate(twice, seen(DAY, 7 * DAY)) == Verdict(False, None)  # exactly a week ago is no longer in the week
    assert evaluate(twice, seen(DAY, 2 * DAY, path="/blog")) == Verdict(False, None)
    assert evaluate(Did(pattern=PRICING, times=2), seen(DAY, 700 * DAY)) == Verdict(True, None)


def test_a_lead_grows_older_once_and_for_all() -> None:
    old = OlderThan(ref="lead.created_at", span=Duration(days=180))
    born = NOW - 179 * DAY
    assert evaluate(old, SimpleFacts(NOW, {"created_at": born})) == Verdict(False, NOW + DAY)
    assert evaluate(old, SimpleFacts(NOW + DAY, {"created_at": born})) == Verdict(True, None)
    assert evaluate(old, SimpleFacts(NOW, {})) == Verdict(False, None)


def test_a_date_in_an_attribute_is_that_day_in_utc() -> None:
    old = OlderThan(ref="lead.renewal", span=Duration(days=10))
    midnight = datetime(2026, 4, 11, tzinfo=UTC)
    assert evaluate(old, SimpleFacts(NOW, {"renewal": "2026-03-31T18:00:00+09:00"})) == Verdict(True, None)
    assert evaluate(old, SimpleFacts(NOW, {"renewal": "2026-04-01"})) == Verdict(False, midnight)
    assert evaluate(old, SimpleFacts(NOW, {"renewal": "2026-03-99"})) == Verdict(
        False, midnight
    )  # no such day: ask daily
    assert evaluate(old, SimpleFacts(NOW, {"renewal": "soon"})) == Verdict(False, None)
    assert evaluate(old, SimpleFacts(NOW, {"renewal": 20260401})) == Verdict(False, None)
    forever = OlderThan(ref="lead.created_at", span=Duration(days=10**8))
    assert evaluate(forever, SimpleFacts(NOW, {"created_at": NOW})) == Verdict(False, None)


def test_and_stays_false_as_long_as_its_longest_lived_false_part() -> None:
    week, month = (Did(pattern=PRICING, within=Duration(days=span)) for span in (7, 30))
    facts = seen(6 * DAY)
    soon, late = NOW + DAY, NOW + 24 * DAY
    assert evaluate(All(of=(Not(of=week), Not(of=month))), facts) == Verdict(False, late)
    assert evaluate(All(of=(week, month)), facts) == Verdict(True, soon)
    assert evaluate(Any_(of=(week, month)), facts) == Verdict(True, late)
    assert evaluate(Any_(of=(Not(of=week), Not(of=month))), facts) == Verdict(False, soon)
    never = Known(ref="lead.nothing")
    assert evaluate(All(of=(never, week)), facts) == Verdict(False, None)
    assert evaluate(Any_(of=(Not(of=never), week)), facts) == Verdict(True, None)
    assert evaluate(All(of=()), facts) == Verdict(True, None)
    assert evaluate(Any_(of=()), facts) == Verdict(False, None)


def test_business_days_in_a_window_are_refused_with_the_cure() -> None:
    condition = Did(pattern=PRICING, within=Duration(business_days=3))
    with pytest.raises(BadInput, match=r"write days\(…\)"):
        evaluate(condition, seen())
    with pytest.raises(BadInput, match=r"write days\(…\)"):
        to_sql(condition, NOW)


def test_a_machines_click_is_no_click_unless_machines_are_asked_for() -> None:
    clicked, asked = Pattern(event="Email Link Clicked"), Pattern(event="Email Link Clicked", where={"verdict": "scanner"})
    assert matches(clicked, "Email Link Clicked", {"mail": "thanks"})
    assert matches(clicked, "Email Link Clicked", {"mail": "thanks", "verdict": "human"})
    assert not matches(clicked, "Email Link Clicked", {"mail": "thanks", "verdict": "scanner"})
    assert matches(asked, "Email Link Clicked", {"mail": "thanks", "verdict": "scanner"})
    assert matches(Pattern(event="Page Viewed"), "Page Viewed", {"verdict": "scanner"})


# Any lead, any condition

Happened = tuple[str, dict[str, object], datetime]
AWKWARD = (
    *("", "a", "A", "ab", "aXb", "営業部長", "部", "😀", "é", "e\u0301", "a\nb", "1", "true", "null", "{}", "[]"),
    *("%", "_", "a_b", "a%b", "[ab]", "a[b", "]", "?", "!", "*", "'", '"', "\\"),
    *("2026-04-01", "2026-04-09T23:00:00Z", "2026-02-30", "2026-13-01", "2026-04"),
)
TEXTS = st.sampled_from(AWKWARD)
GLOBS = st.lists(st.one_of(TEXTS, st.just("*")), min_size=1, max_size=3).map("".join)
NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([0.5, 1.0, -0.0, 0.1, 1e-9, 2**53, 2**31, -(2**40), 1e300, 49.5, 50]),
    st.floats(-3, 3),
)
SCALARS = st.one_of(TEXTS, NUMBERS, st.booleans())
JSON = st.one_of(SCALARS, st.none(), st.lists(SCALARS, max_size=2), st.dictionaries(TEXTS, SCALARS, max_size=2))
KEYS = st.sampled_from(["plan", "席数", 'a"b', "x.y", "a b", "$", "id", "\\", "é", "0", "[0]"])
SPANS = st.builds(Duration, days=st.integers(0, 2), hours=st.sampled_from([0, 12]), minutes=st.sampled_from([0, 1]))
MOMENTS = st.builds(
    lambda half_days, minutes, moment: NOW - timedelta(days=half_days / 2, minutes=minutes, microseconds=moment),
    st.integers(-1, 6), st.integers(0, 1), st.integers(-1, 1),
)  # fmt: skip
STAGES_ = st.sampled_from(["awareness", "interest", "consideration", "お得意様"])
EVENT_NAMES = st.sampled_from(["Page Viewed", "page viewed", "資料請求", "Email Opened"])
VERDICTS = st.sampled_from(["human", "scanner", "proxy", "", None, True, 1])
PROPERTIES = st.dictionaries(KEYS, JSON, max_size=2) | st.builds(
    lambda its, verdict: {**its, "verdict": verdict}, st.dictionaries(KEYS, JSON, max_size=1), VERDICTS
)
EVENTS = st.tuples(EVENT_NAMES, PROPERTIES, MOMENTS)

LEADS = st.fixed_dictionaries(
    {
        "stage": STAGES_,
        "score": st.integers(-1, 2) | st.sampled_from([49, 50, 2**31 - 1]),
        **{name: st.lists(TEXTS, max_size=2) for name in ("tags", "topics", "excluded")},
        "attributes": st.dictionaries(KEYS, JSON, max_size=4),
        "created_at": MOMENTS,
        **{name: st.none() | MOMENTS for name in ("opted_out_at", "active_at", "contacted_at")},
        "company_size": st.none() | st.integers(0, 3),
        **{
            name: st.none() | TEXTS
            for name in ("name", "company", "title", "industry", "time_zone", "rank", "industry_group", "first_source")
        },
    }
)

MATCHES = st.one_of(SCALARS, GLOBS, st.lists(SCALARS | GLOBS, max_size=3).map(tuple))
PATTERNS = st.builds(
    Pattern, event=EVENT_NAMES, where=st.dictionaries(KEYS | st.just("verdict"), MATCHES, max_size=2)
)
REFS = st.one_of(
    st.sampled_from([f"lead.{name}" for name in (*COLUMNS, "last_seq", "attributes")]),
    KEYS.map(lambda key: f"lead.{key}"),
)
LEAVES: st.SearchStrategy[Condition] = st.one_of(
    st.builds(Compare, op=st.sampled_from(["eq", "gt", "ge", "lt", "le"]), ref=REFS, to=SCALARS),
    st.builds(Among, ref=REFS, to=st.lists(SCALARS, max_size=3).map(tuple)),
    st.builds(Like, ref=REFS, to=GLOBS),
    st.builds(AtLeast, to=STAGES_),
    st.builds(Known, ref=REFS),
    st.builds(Tagged, ref=st.sampled_from(["lead.tags", "lead.topics", "lead.excluded"]), to=TEXTS),
    st.builds(OlderThan, ref=REFS, span=SPANS),
    st.builds(Did, pattern=PATTERNS, times=st.integers(1, 3), within=st.none() | SPANS),
)
CONDITIONS: st.SearchStrategy[Condition] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(All, of=st.lists(inner, max_size=3).map(tuple)),
        st.builds(Any_, of=st.lists(inner, max_size=3).map(tuple)),
        st.builds(Not, of=inner),
    ),
    max_leaves=6,
)


def simple(
    lead: Mapping[str, Any], events: Sequence[tuple[str, Mapping[str, object], datetime]], now: datetime = NOW
) -> SimpleFacts:
    columns = {key: value for key, value in lead.items() if key != "attributes"}
    hidden = {key: value for key, value in lead["attributes"].items() if key not in COLUMNS}
    return SimpleFacts(now, {**hidden, **columns}, events=events)


@given(
    condition=CONDITIONS,
    lead=LEADS,
    events=st.lists(EVENTS, max_size=6),
    later=st.timedeltas(timedelta(), timedelta(days=6)),
)
def test_nothing_changes_before_valid_until(
    condition: Condition, lead: dict[str, Any], events: list[Happened], later: timedelta
) -> None:
    verdict = evaluate(condition, simple(lead, events))
    moments = [
        NOW + later,
        *(NOW + timedelta(hours=hours, microseconds=micro) for hours in range(0, 150, 6) for micro in (0, 1)),
    ]
    if verdict.valid_until is not None:
        assert verdict.valid_until > NOW
        moments.append(verdict.valid_until - timedelta(microseconds=1))
    for moment in moments:
        if moment >= NOW and (verdict.valid_until is None or moment < verdict.valid_until):
            assert evaluate(condition, simple(lead, events, moment)).value is verdict.value


@given(leaf=LEAVES, lead=LEADS, events=st.lists(EVENTS, max_size=6))
def test_a_single_condition_changes_exactly_at_valid_until(
    leaf: Condition, lead: dict[str, Any], events: list[Happened]
) -> None:
    verdict = evaluate(leaf, simple(lead, events))
    facts = simple(lead, events)
    no_such_day = isinstance(leaf, OlderThan) and facts.value(leaf.ref) in ("2026-02-30", "2026-13-01")
    if verdict.valid_until is not None and not no_such_day:
        assert evaluate(leaf, simple(lead, events, verdict.valid_until)).value is not verdict.value


@given(one=CONDITIONS, other=CONDITIONS, lead=LEADS, events=st.lists(EVENTS, max_size=6))
def test_the_laws_of_logic_hold_for_value_and_time(
    one: Condition, other: Condition, lead: dict[str, Any], events: list[Happened]
) -> None:
    facts = simple(lead, events)

    def says(condition: Condition) -> Verdict:
        return evaluate(condition, facts)

    assert says(Not(of=All(of=(one, other)))) == says(Any_(of=(Not(of=one), Not(of=other))))
    assert says(Not(of=Any_(of=(one, other)))) == says(All(of=(Not(of=one), Not(of=other))))
    assert says(Not(of=Not(of=one))) == says(one)
    assert says(All(of=(one, one))) == says(one) == says(Any_(of=(one,)))
    assert says(Any_(of=(one, Not(of=one)))).value is True
    assert says(All(of=(one, Not(of=one)))).value is False


# SQL says the same


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    leads=st.lists(st.tuples(LEADS, st.lists(EVENTS, max_size=4)), min_size=3, max_size=8),
    conditions=st.lists(CONDITIONS, min_size=10, max_size=10),
)
def test_sql_says_of_all_leads_what_python_says_of_each(
    database: Database,
    leads: list[tuple[dict[str, Any], list[Happened]]],
    conditions: list[Condition],
) -> None:
    with Session(database.engine) as session:  # never committed
        known = {row.id: (row, simple(lead, events)) for row, lead, events in stored(session, leads)}
        for condition in conditions:
            where = to_sql(condition, NOW)
            rows = session.connection().execute(select(Lead.id, where.label("value")))
            answers = {row[0]: row[1] for row in rows}
            expected = {id: evaluate(condition, facts).value for id, (_, facts) in known.items()}
            assert answers == expected, condition
            assert None not in answers.values()
            chosen = set(session.exec(select(Lead.id).where(where)).all())
            assert chosen == {id for id, value in expected.items() if value}
            stored_facts = {
                id: evaluate(condition, LeadFacts(session, row, NOW)).value for id, (row, _) in known.items()
            }
            assert stored_facts == expected


def stored(
    session: Session, leads: list[tuple[dict[str, Any], list[Happened]]]
) -> Iterator[tuple[Lead, dict[str, Any], list[Happened]]]:
    numbers = itertools.count()
    for number, (lead, events) in enumerate(leads):
        lead = {
            "email": f"lead{number}@example.com",
            "language": "ja",
            "qualification": "none",
            "updated_at": NOW,
            **lead,
        }
        row = Lead(**lead)
        session.add(row)
        session.flush()
        for seq, (name, properties, at) in enumerate(events):
            times = {"occurred_at": at, "received_at": NOW}
            event: dict[str, Any] = {"message_id": str(next(numbers)), "name": name, "properties": properties, **times}
            session.add(Event(lead_id=row.id or 0, seq=seq, **event))
        yield row, lead, events
    session.flush()


def test_sql_and_python_agree_on_every_awkward_text_and_glob(database: Database) -> None:
    """The property test seldom draws the one text that a glob could confuse; here each meets each."""
    globs = [
        *AWKWARD,
        *(f"*{part}*" for part in AWKWARD),
        *(f"{part}*" for part in AWKWARD),
        "a_*",
        "a%*",
        "A*",
        "a*b",
        "[a*",
        "*!%",
    ]
    with Session(database.engine) as session:
        for number, value in enumerate(AWKWARD):
            attributes = {"plan": value, "席": value}
            session.add(
                Lead(email=f"{number}@example.com", title=value, attributes=attributes, created_at=NOW, updated_at=NOW)
            )
        session.flush()
        for glob in globs:
            for ref, condition in itertools.product(("lead.title", "lead.plan", "lead.席"), (Like, Compare)):
                asked = Like(ref=ref, to=glob) if condition is Like else Compare(op="eq", ref=ref, to=glob)
                found = set(session.exec(select(Lead.title).where(to_sql(asked, NOW))).all())
                assert found == {value for value in AWKWARD if holds(asked, title=value, plan=value, 席=value)}, (
                    glob,
                    ref,
                )


def test_sql_and_python_agree_on_every_pair_of_kinds(database: Database) -> None:
    values: list[Any] = [
        0,
        1,
        -1,
        1.0,
        0.1,
        0.5,
        1e300,
        2**53,
        -(2**53),
        True,
        False,
        "1",
        "true",
        "",
        "0.1",
        None,
        [],
        [1],
        {},
        {"a": 1},
    ]
    with Session(database.engine) as session:
        for number, value in enumerate(values):
            session.add(
                Lead(
                    email=f"{number}@example.com", score=number, attributes={"x": value}, created_at=NOW, updated_at=NOW
                )
            )
        session.flush()
        scalars = [value for value in values if isinstance(value, (bool, int, float, str))]
        for to, op in itertools.product([*scalars, 0.10000000000000002, 2**53 - 1], ("eq", "gt", "ge", "lt", "le")):
            asked = Compare(op=op, ref="lead.x", to=to)
            found = set(session.exec(select(Lead.score).where(to_sql(asked, NOW))).all())
            assert found == {number for number, value in enumerate(values) if holds(asked, x=value)}, (op, to)


def test_sql_and_python_agree_at_the_edges_of_a_window(database: Database) -> None:
    offsets = [timedelta(microseconds=moment) for moment in (-1, 0, 1)]
    week = Duration(days=7)
    with Session(database.engine) as session:
        for number, offset in enumerate(offsets):
            at = NOW - 7 * DAY + offset
            lead = Lead(email=f"{number}@example.com", score=number, created_at=at, updated_at=NOW)
            session.add(lead)
            session.flush()
            properties = {"path": "/pricing"}
            event: dict[str, Any] = {
                "name": "Page Viewed",
                "properties": properties,
                "occurred_at": at,
                "received_at": NOW,
            }
            session.add(Event(lead_id=lead.id or 0, seq=1, message_id=str(number), **event))
        session.flush()

        def found(condition: Condition) -> list[int]:
            return sorted(session.exec(select(Lead.score).where(to_sql(condition, NOW))).all())

        assert found(Did(pattern=PRICING, within=week)) == [2]
        assert found(OlderThan(ref="lead.created_at", span=week)) == [0, 1]
        for number, offset in enumerate(offsets):
            facts = SimpleFacts(NOW, {"created_at": NOW - 7 * DAY + offset}, events=seen(7 * DAY - offset).events)
            assert evaluate(Did(pattern=PRICING, within=week), facts).value is (number == 2)
            assert evaluate(OlderThan(ref="lead.created_at", span=week), facts).value is (number != 2)


@pytest.mark.parametrize(
    "number", ["1" + "0" * 400, "1e400", "-1e400", "9223372036854775808", "0.1000000000000000000001"]
)
def test_one_lead_with_an_odd_number_does_not_break_the_segment(database: Database, number: str) -> None:
    """Such a number is valid JSON; PostgreSQL keeps it and no float can hold it."""
    with Session(database.engine) as session:
        session.add(Lead(email="normal@example.com", attributes={"seats": 5}, created_at=NOW, updated_at=NOW))
        session.add(Lead(email="odd@example.com", attributes={"seats": 0}, created_at=NOW, updated_at=NOW))
        session.flush()
        cast = "" if database.sqlite else "::jsonb"
        session.connection().execute(
            text(f"UPDATE leads SET attributes = '{{\"seats\": {number}}}'{cast} WHERE email LIKE 'odd%'")
        )
        for op in ("eq", "gt", "ge", "lt", "le"):
            for to in (5, 0.5, 10**400, -(10**400), 2**63, float("inf")):
                session.exec(select(Lead.id).where(to_sql(Compare(op=op, ref="lead.seats", to=to), NOW))).all()
                session.exec(select(Lead.id).where(to_sql(Compare(op=op, ref="lead.score", to=to), NOW))).all()
        found = session.exec(select(Lead.email).where(to_sql(Compare(op="eq", ref="lead.seats", to=5), NOW))).all()
        assert found == ["normal@example.com"]


@pytest.mark.parametrize("odd", ["a\0b", "\ud800"])
def test_text_that_no_database_stores_is_asked_for_without_an_error(database: Database, odd: str) -> None:
    refs = [f"lead.{name}" for name in (*COLUMNS, "plan", odd)]
    conditions: list[Condition] = [
        *(Compare(op="eq", ref=ref, to=odd) for ref in refs),
        *(Like(ref=ref, to=f"*{odd}*") for ref in refs),
        Known(ref=f"lead.{odd}"),
        Tagged(to=odd),
        Did(pattern=Pattern(event=odd)),
        Did(pattern=Pattern(event="E", where={"x": odd})),
        Did(pattern=Pattern(event="E", where={odd: "x"})),
    ]
    with Session(database.engine) as session:
        session.add(Lead(email="a@example.com", attributes={"plan": "x"}, created_at=NOW, updated_at=NOW))
        for condition in conditions:
            assert session.exec(select(Lead.id).where(to_sql(condition, NOW))).all() == []


def test_a_segment_cannot_ask_for_an_entry_and_says_so() -> None:
    with pytest.raises(BadInput, match=r"'entry.content' is known only within a journey"):
        to_sql(All(of=(Known(ref="entry.content"),)), NOW)
    with pytest.raises(BadInput, match=r"'score' names nothing"):
        to_sql(Compare(op="ge", ref="score", to=1), NOW)


def test_stages_of_the_users_model_count_in_sql_too(database: Database) -> None:
    with Session(database.engine) as session:
        for stage in ("cold", "warm", "hot"):
            session.add(Lead(email=f"{stage}@example.com", stage=stage, created_at=NOW, updated_at=NOW))
        where = to_sql(AtLeast(to="warm"), NOW, stages=("cold", "warm", "hot"))
        assert set(session.exec(select(Lead.stage).where(where)).all()) == {"warm", "hot"}
        assert session.exec(select(Lead.stage).where(to_sql(AtLeast(to="warm"), NOW))).all() == []
