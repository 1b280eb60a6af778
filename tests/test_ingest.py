"""Storing events: once, in order, for the right lead."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlmodel import Session, col, select

from mebae.errors import BadInput
from mebae.events import IDENTIFIED
from mebae.store.database import Database
from mebae.store.ingest import Incoming, Stored, store_events
from mebae.store.leads import Who, find_lead, normalise_email, set_values, upsert_lead
from mebae.store.tables import Event, Lead
from mebae.store.traits import LARGEST_ATTRIBUTES, read_traits

ADDRESSES = [None, "a@example.jp", "b@example.jp", "c@example.jp"]
NOW = datetime(2026, 4, 1, 1, 0, tzinfo=UTC)
SATO = "sato.kenji@aoba-seiki.example"


def track(
    message_id: str,
    name: str = "Page Viewed",
    *,
    email: str | None = SATO,
    user_id: str | None = None,
    **properties: Any,
) -> Incoming:
    return Incoming(
        message_id=message_id, name=name, properties=properties, occurred_at=NOW, received_at=NOW,
        who=Who(email=email, user_id=user_id),
    )  # fmt: skip


def identify(message_id: str, *, email: str | None = SATO, user_id: str | None = None, **traits: Any) -> Incoming:
    return Incoming(
        message_id=message_id, name=IDENTIFIED, occurred_at=NOW, received_at=NOW, traits=traits,
        who=Who(email=email, user_id=user_id, moves=True),
    )  # fmt: skip


def store(database: Database, *incoming: Incoming) -> Stored:
    return database.write_now(store_events, incoming, NOW)


def events(database: Database, email: str = SATO) -> list[Event]:
    def work(session: Session) -> list[Event]:
        lead = find_lead(session, email=email)
        assert lead is not None
        return list(session.exec(select(Event).where(Event.lead_id == lead.id).order_by(col(Event.seq))))

    return database.write_now(work)


def lead(database: Database, *, email: str | None = None, user_id: str | None = None) -> Lead | None:
    return database.write_now(find_lead, email=email, user_id=user_id)


def count(database: Database, table: type[Event] | type[Lead]) -> int:
    return len(database.write_now(lambda session: session.exec(select(table)).all()))


def at_once(*works: Callable[[], Any]) -> list[Any]:
    """Runs all of them on connections of their own, let go at one moment."""
    gate = threading.Barrier(len(works))

    def run(work: Callable[[], Any]) -> Any:
        gate.wait()
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, works))


# One event ------------------------------------------------------------------------------------------------------------


def test_unknown_address_becomes_a_lead_whose_first_event_is_its_creation(database: Database) -> None:
    assert store(database, track("m1", "Content Downloaded", content="whitepaper-iot")) == Stored(new=1)

    created, downloaded = events(database)
    assert (created.seq, created.name, created.message_id) == (1, "Lead Created", f"lead-created:{created.lead_id}")
    assert (downloaded.seq, downloaded.name, downloaded.properties) == (
        2,
        "Content Downloaded",
        {"content": "whitepaper-iot"},
    )
    assert created.routed_at is None
    assert downloaded.routed_at is None
    kept = lead(database, email=SATO)
    assert kept is not None
    assert kept.last_seq == 2


def test_same_message_twice_is_stored_once_and_takes_no_place(database: Database) -> None:
    store(database, track("m1"), track("m2"), track("m1"))
    assert store(database, track("m2"), track("m3"), track("m3")) == Stored(new=1, duplicates=2)
    assert [(e.seq, e.message_id) for e in events(database)[1:]] == [(2, "m1"), (3, "m2"), (4, "m3")]


def test_same_message_for_another_lead_is_still_a_duplicate(database: Database) -> None:
    store(database, track("m1"))
    assert store(database, track("m1", email="other@example.com")) == Stored(duplicates=1)
    assert lead(database, email="other@example.com") is None


def test_nothing_occurs_after_it_was_received(database: Database) -> None:
    store(database, track("m1").model_copy(update={"occurred_at": NOW + timedelta(days=3)}))
    assert events(database)[-1].occurred_at == NOW


def test_a_repeated_event_does_not_bring_back_an_erased_lead(database: Database) -> None:
    store(database, track("m1"))

    def erase(session: Session) -> None:
        erased = find_lead(session, email=SATO)
        assert erased is not None
        erased.email = None

    database.write_now(erase)
    assert store(database, track("m1")) == Stored(duplicates=1)
    assert lead(database, email=SATO) is None


def test_what_unknown_visitors_do_is_kept_aside_and_makes_no_lead(database: Database) -> None:
    anonymous = [track(m, email=None).model_copy(update={"who": Who(anonymous_id=m.upper())}) for m in ("a1", "a2")]
    assert store(database, *anonymous, track("m1")) == Stored(new=3, aside=2)
    assert store(database, *anonymous) == Stored(duplicates=2)

    assert count(database, Lead) == 1
    assert [one.message_id for one in events(database)] == [f"lead-created:{events(database)[0].lead_id}", "m1"]


# Identify -------------------------------------------------------------------------------------------------------------


def test_identify_writes_the_traits_and_says_what_changed(database: Database) -> None:
    store(database, track("m0"))
    store(
        database,
        identify(
            "m1",
            lastName="佐藤",
            firstName="健司",
            company={"name": "青葉精機"},
            jobTitle="課長",
            employees="1,200名",
            plan="pro",
        ),
    )

    known = lead(database, email=SATO)
    assert known is not None
    assert (known.name, known.company, known.title, known.company_size) == ("佐藤 健司", "青葉精機", "課長", 1200)
    assert known.attributes == {"last_name": "佐藤", "first_name": "健司", "plan": "pro"}
    told = events(database)[-1]
    assert told.name == IDENTIFIED
    assert told.properties["changed"] == ["company", "company_size", "first_name", "last_name", "name", "plan", "title"]
    assert told.properties["values"]["title"] == "課長"
    assert told.routed_at is None


def test_identify_that_says_nothing_new_wakes_nobody(database: Database) -> None:
    store(database, identify("m1", title="部長"))
    store(database, identify("m2", title="部長", company=None, industry=""))
    assert events(database)[-1].message_id == "m2"
    assert events(database)[-1].properties["changed"] == []
    assert events(database)[-1].routed_at is not None


def test_late_repetition_of_an_old_identify_undoes_nothing(database: Database) -> None:
    store(database, identify("m1", title="課長"), identify("m2", title="課長"), identify("m3", title="部長"))
    store(database, identify("m2", title="課長"), identify("m1", title="課長"))
    known = lead(database, email=SATO)
    assert known is not None
    assert known.title == "部長"


def test_unreadable_traits_are_left_out_and_the_rest_goes_in(database: Database) -> None:
    store(database, identify("m1", stage="warm", score="many", timezone="Mars/Olympus", title="係長", language="ja-JP"))
    known = lead(database, email=SATO)
    assert known is not None
    assert (known.stage, known.score, known.time_zone, known.title, known.language) == (
        "awareness",
        0,
        None,
        "係長",
        "ja",
    )


def test_attributes_stay_within_their_bound(database: Database) -> None:
    many: dict[str, Any] = {f"key{n}": "あ" * 1000 for n in range(40)} | {"small": 1, "k" * 65: 1}
    store(database, identify("m1", **many))
    known = lead(database, email=SATO)
    assert known is not None
    assert known.attributes["small"] == 1
    assert 10 <= len(known.attributes) <= LARGEST_ATTRIBUTES // 3000 + 1


def test_poison_characters_are_cleaned(database: Database) -> None:
    store(database, identify("m1", name="佐\x00藤\ud800", note={"a\x00": ["\udfff", float("inf"), 10**400]}))
    known = lead(database, email=SATO)
    assert known is not None
    assert known.name == "佐藤\ufffd"
    assert known.attributes == {"note": {"a": ["\ufffd", None, None]}}


# Who is who -----------------------------------------------------------------------------------------------------------


def test_user_id_learns_its_address_from_a_later_event(database: Database) -> None:
    store(database, track("m1", email=None, user_id="u1"), track("m2", user_id="u1"), track("m3", email=SATO))
    assert count(database, Lead) == 1
    known = lead(database, user_id="u1")
    assert known is not None
    assert known.email == SATO

    store(database, track("m4", email=None, user_id="u2"))
    store(database, track("m5", email="tanaka@example.jp", user_id="u2"))
    assert [e.name for e in events(database, "tanaka@example.jp")] == [
        "Lead Created",
        "Page Viewed",
        IDENTIFIED,
        "Page Viewed",
    ]


def test_identify_moves_a_user_to_a_new_address_and_a_form_field_does_not(database: Database) -> None:
    store(database, identify("m1", user_id="u1"))
    store(database, track("m2", email="colleague@example.jp", user_id="u1"))
    assert lead(database, email="colleague@example.jp") is None
    store(database, identify("m3", email="new@example.jp", user_id="u1"), track("m4", email=SATO))
    moved = lead(database, user_id="u1")
    assert moved is not None
    assert moved.email == "new@example.jp"
    assert count(database, Lead) == 1


def test_lead_without_address_gives_its_user_id_to_the_one_that_has_it(database: Database) -> None:
    store(database, track("m1", email=None, user_id="u1"))
    store(database, track("m2"))
    store(database, track("m3", user_id="u1"))
    known = lead(database, user_id="u1")
    assert known is not None
    assert known.email == SATO
    assert store(database, track("m4", email=None, user_id="u1")).new == 1
    assert [e.message_id for e in events(database) if e.message_id.startswith("m")] == ["m2", "m3", "m4"]


def test_user_id_stays_with_a_lead_that_has_an_address_of_its_own(database: Database) -> None:
    store(database, track("m1", user_id="u1"), track("m2", email="other@example.jp"))
    store(database, track("m3", email="other@example.jp", user_id="u1"))
    assert events(database)[-1].message_id == "m3"


@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from(ADDRESSES), st.sampled_from([None, "u1", "u2", "u3"]), st.booleans()),
            min_size=1, max_size=6,
        ),
        min_size=1, max_size=4,
    )
)  # fmt: skip
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whoever_is_named_in_whatever_order_every_event_is_stored_once(
    sqlite_database: Database, batches: list[list[Any]]
) -> None:
    before = count(sqlite_database, Event)
    made = 0
    for batch in batches:
        incoming = []
        for email, user_id, moves in batch:
            made += 1
            make = identify if moves else track
            incoming.append(make(f"h{before}-{made}", email=email, user_id=user_id))
        assert store(sqlite_database, *incoming).new == len(incoming)
    _orders_are_whole(sqlite_database)


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("Sato.Kenji@Aoba-Seiki.example", SATO),
        ("　ｓａｔｏ＠ｅｘａｍｐｌｅ．ｊｐ ", "sato@example.jp"),
        ("<mailto@example.jp>", "mailto@example.jp"),
        ("a..b@docomo.ne.jp", "a..b@docomo.ne.jp"),
        ('"a..b."@docomo.ne.jp', "a..b.@docomo.ne.jp"),
        (".abc.@t.vodafone.ne.jp", ".abc.@t.vodafone.ne.jp"),
        ("sato@例え.jp", "sato@例え.jp"),
    ],
)
def test_addresses_have_one_spelling(written: str, normal: str) -> None:
    assert normalise_email(written) == normal


@pytest.mark.parametrize(
    "written", ["", "sato", "a..b@example.jp", "sato@", "a b@docomo.ne.jp", "x\n@docomo.ne.jp", "a@b@c.jp", "\x00@a.jp"]
)
def test_what_is_no_address_is_said_so(written: str) -> None:
    with pytest.raises(BadInput, match="not a mail address"):
        normalise_email(written)


def test_upsert_finds_by_either_and_reports_the_change(database: Database) -> None:
    def upsert(session: Session, /, **traits: Any) -> tuple[bool, dict[str, Any]]:
        _, created, changed = upsert_lead(
            session, email="SATO.kenji@aoba-seiki.example", user_id="u1", traits=traits, now=NOW
        )
        return created, changed

    assert database.write_now(upsert, 役職="部長", 業種="manufacturing") == (
        True,
        {"title": "部長", "industry": "manufacturing"},
    )
    assert database.write_now(upsert, 役職="部長", 業種="it") == (False, {"industry": "it"})
    assert database.write_now(upsert, 業種="it") == (False, {})


def test_set_values_reaches_columns_and_attributes() -> None:
    someone = Lead(email=SATO, created_at=NOW, updated_at=NOW)
    assert set_values(someone, {"stage": "interest", "vip": True}) == {"stage": "interest", "vip": True}
    assert set_values(someone, {"stage": "interest", "vip": 1}) == {"vip": 1}
    assert (someone.stage, someone.attributes) == ("interest", {"vip": 1})


@pytest.mark.parametrize(
    ("traits", "columns"),
    [
        ({"従業員数": "５１〜２００名"}, {"company_size": 51}),
        ({"employees": "1,200"}, {"company_size": 1200}),
        ({"company": {"name": "青葉", "employee_count": 30, "id": "x"}}, {"company": "青葉", "company_size": 30}),
        ({"ステージ": "検討"}, {"stage": "consideration"}),
        ({"locale": "en_US", "tz": "america/new_york"}, {"language": "en", "time_zone": "America/New_York"}),
        ({"言語": "日本語", "タイムゾーン": "JST"}, {"language": "ja", "time_zone": "Asia/Tokyo"}),
        ({"score": 12.0}, {"score": 12}),
    ],
)
def test_traits_are_read_by_many_names(traits: dict[str, Any], columns: dict[str, Any]) -> None:
    reading = read_traits(traits)
    assert reading.columns == columns
    assert reading.unreadable == []


# Many at once ---------------------------------------------------------------------------------------------------------


def test_same_message_on_eight_connections_is_stored_once(database: Database) -> None:
    for round_ in range(10):
        answers = at_once(
            *[lambda r=round_: store(database, track(f"r{r}", email=f"r{r}@example.jp", user_id=f"u{r}"))] * 8
        )
        assert sum(answer.new for answer in answers) == 1
    assert count(database, Event) == 20
    assert count(database, Lead) == 10


def test_same_message_for_eight_different_leads_is_stored_once(database: Database) -> None:
    for round_ in range(5):
        answers = at_once(
            *[lambda n=n, r=round_: store(database, track(f"r{r}", email=f"lead{n}@example.jp")) for n in range(8)]
        )
        assert sum(answer.new for answer in answers) == 1
    _orders_are_whole(database)


def test_parallel_writers_leave_no_gap_and_no_repeat_in_any_lead(database: Database) -> None:
    people = [f"p{n}@example.jp" for n in range(6)]

    def writer(which: int) -> None:
        for batch in range(12):
            order = people if which % 2 else people[::-1]
            store(
                database,
                *[track(f"w{which}-{batch}-{n}", email=who) for n, who in enumerate(order)],
                track(f"shared-{batch}", email=order[0]),
            )

    at_once(*[lambda n=n: writer(n) for n in range(6)])
    assert count(database, Event) == len(people) + 6 * 12 * len(people) + 12
    assert count(database, Lead) == len(people)
    _orders_are_whole(database)


def _orders_are_whole(database: Database) -> None:
    """Each lead's events are numbered 1, 2, 3 … up to the number that the lead remembers."""

    def work(session: Session) -> None:
        for someone in session.exec(select(Lead)).all():
            seqs = session.exec(select(Event.seq).where(Event.lead_id == someone.id).order_by(col(Event.seq))).all()
            assert list(seqs) == list(range(1, someone.last_seq + 1))

    database.write_now(work)
