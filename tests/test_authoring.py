"""What a marketer writes is data; what cannot mean what it says is refused at once, with the right spelling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mebae import authoring
from mebae.authoring import (
    Scenario,
    all_of,
    any_of,
    branch,
    business_days,
    call_task,
    choose,
    created,
    days,
    did,
    did_not,
    downloaded,
    end,
    entry,
    hand_to_sales,
    hours,
    lead,
    minutes,
    not_,
    notify_sales,
    on,
    qualified,
    run,
    send,
    set_lead,
    share,
    split,
    tag,
    tracked,
    visited,
    wait,
    wait_for,
    wait_until,
    weeks,
    when,
)
from mebae.conditions import All, Among, Any_, Compare, Condition, Did, Known, Not, OlderThan, Pattern, Tagged
from mebae.errors import AuthoringError
from mebae.events import EVENTS
from mebae.timing import Duration

hot: Condition = lead.score >= 50
maker: Condition = lead.industry == "manufacturing"


def test_every_public_verb_explains_itself_and_shows_an_example() -> None:
    for name in authoring.__all__:
        thing = getattr(authoring, name)
        if name in ("lead", "entry"):
            continue
        assert thing.__doc__, name
        assert ">>> " in thing.__doc__, f"{name} has no example"


def test_every_event_of_the_table_has_its_verb() -> None:
    for spec in EVENTS:
        pattern = getattr(authoring, spec.verb)()
        assert pattern == Pattern(event=spec.name)
        assert spec.verb in authoring.__all__


def test_the_public_names_are_all_there_and_in_order() -> None:
    assert sorted(authoring.__all__, key=lambda name: (name[0].islower(), name)) == authoring.__all__
    assert all(hasattr(authoring, name) for name in authoring.__all__)


# -- conditions are data


def test_comparisons_become_conditions() -> None:
    assert hot == Compare(op="ge", ref="lead.score", to=50)
    assert (lead.score < 10) == Compare(op="lt", ref="lead.score", to=10)
    assert (10 < lead.score) == Compare(op="gt", ref="lead.score", to=10)  # noqa: SIM300 - authors write it so
    assert (lead.industry != "retail") == Not(of=Compare(op="eq", ref="lead.industry", to="retail"))
    assert lead.industry.in_("a", "b") == Among(ref="lead.industry", to=("a", "b"))
    assert lead.industry.in_(["a", "b"]) == lead.industry.in_("a", "b")  # type: ignore[arg-type]
    assert lead.industry.not_in("a") == Not(of=Among(ref="lead.industry", to=("a",)))
    assert lead.company.is_known() == Known(ref="lead.company")
    assert lead.tags.has("fair") == Tagged(to="fair")
    assert lead.created_at.older_than(days(180)) == OlderThan(ref="lead.created_at", span=Duration(days=180))
    assert (lead.plan == "trial") == Compare(op="eq", ref="lead.plan", to="trial")
    assert (entry["Page Title"] == "Pricing") == Compare(op="eq", ref="entry.Page Title", to="Pricing")
    assert lead["score"].kind == "number"


def test_conditions_join_flat_however_they_are_grouped() -> None:
    a, b, c = hot, maker, lead.tags.has("fair")
    assert (a & b) & c == a & (b & c) == all_of(a, b, c) == All(of=(a, b, c))
    assert (a | b) | c == a | (b | c) == any_of(a, b, c) == Any_(of=(a, b, c))
    assert (a & b) | c == Any_(of=(All(of=(a, b)), c))
    assert ~~a == a
    assert not_(a) == ~a == Not(of=a)
    assert all_of(a) == a


def test_what_a_lead_did_is_a_condition_too() -> None:
    pricing = visited("/pricing")
    assert did(pricing, times=2, within=days(30)) == Did(pattern=pricing, times=2, within=Duration(days=30))
    assert did_not(pricing, within=days(30)) == Not(of=Did(pattern=pricing, within=Duration(days=30)))


def test_events_by_alias_list_and_glob() -> None:
    assert tracked("資料ダウンロード", content="a") == downloaded("a")
    assert visited(["/pricing", "/plans"]).where == {"path": ("/pricing", "/plans")}
    assert downloaded("whitepaper-*").where == {"content": "whitepaper-*"}
    assert tracked("Trial Started", seats=5, paid=True).where == {"seats": 5, "paid": True}


def test_durations() -> None:
    assert minutes(5) == Duration(minutes=5)
    assert hours(5) == Duration(hours=5)
    assert weeks(2) == Duration(days=14)
    assert business_days(3) == Duration(business_days=3)
    assert wait(days(1), at="9:00").at == "09:00"
    assert wait(days(1), on=business_days).business
    assert not wait(days(1)).business


# -- the wrong spelling teaches the right one


def _wrong() -> list[tuple[str, Callable[[], object], str]]:
    # Each lambda is what somebody will write one day; mypy would stop some of them, marketers do not run mypy.
    x: Any = lead
    return [
        ("and", lambda: hot and maker, "write (a) & (b)"),
        ("or", lambda: hot or maker, "write (a) | (b)"),
        ("not", lambda: not hot, "write ~(a)"),
        ("chained", lambda: 10 <= x.score <= 50, "write (lead.score >= 10) & (lead.score <= 50)"),
        ("in a tuple", lambda: x.industry in ("a", "b"), 'write lead.industry.in_("a", "b")'),
        ("in tags", lambda: "fair" in x.tags, 'write lead.tags.has("fair")'),
        ("in text", lambda: "部長" in x.title, 'write lead.title.like("*部長*")'),
        ("bare ref", lambda: when(x.company), 'write lead.company == "…"'),
        ("ref as truth", lambda: x.score and hot, "write lead.score >= 50"),
        ("no parentheses", lambda: x.score >= 50 & maker, "parentheses"),
        ("no parentheses, two", lambda: hot & x.stage == "interest", "parentheses"),
        ("a truth in it", lambda: hot & True, "True is not a condition"),
        ("event as condition", lambda: hot & visited("/pricing"), "did(…)"),
        ("event or event", lambda: visited("/a") or visited("/b"), "on(event, […]), on(event, […])"),
        ("event in when", lambda: when(x_any(visited("/a"))), 'did(visited("/pricing"))'),
        ("condition in on", lambda: on(x_any(hot)), "write when(…, […])"),
        ("stage order", lambda: x.stage >= "interest", 'write lead.stage.at_least("interest")'),
        ("qualification slip", lambda: x.qualification != "MQL", "'MQL' is no qualification"),
        ("qualification slip, event", lambda: qualified("mqll"), "did you mean 'mql'?"),
        ("at_least of a number", lambda: x.score.at_least("interest"), "write lead.score >= 50"),
        ("text order", lambda: x.industry > "a", 'write lead.industry == "…"'),
        ("text for a number", lambda: x.score >= "50", "write lead.score >= 50"),
        ("number for a text", lambda: x.industry == 5, 'lead.industry == "5"'),
        ("custom order of text", lambda: x.plan > "a", "needs a number"),
        ("none", lambda: x.company == None, "write lead.company.is_known()"),  # noqa: E711
        ("two refs", lambda: x.score >= x.company_size, "with a value only"),
        ("nan", lambda: x.score >= float("nan"), "finite number"),
        ("date compared", lambda: x.created_at == "2026-04-01", "older_than(days(30))"),
        ("tags compared", lambda: x.tags == "fair", 'write lead.tags.has("exhibition-2026")'),
        ("unknown method", lambda: x.stage.atleast("interest"), "did you mean 'at_least'?"),
        ("ref in a text", lambda: f"{x.company}が来た", "belongs into a mail"),
        ("setting", lambda: setattr(lead, "plan", "trial"), "set_lead(plan='trial')"),
        ("empty in_", lambda: x.industry.in_(), "at least one value"),
        ("plain number", lambda: wait(x_any(3)), "write a duration, such as wait(days(3))"),
        ("half a day", lambda: days(x_any(1.5)), "write hours(36)"),
        ("text duration", lambda: days(x_any("3")), "write a whole number"),
        ("on a number of days", lambda: wait(days(1), on=x_any(business_days(1))), "write on=business_days"),
        ("within without a verb", lambda: wait_for(within=x_any(7)), "within=days(7)"),
        ("never so often", lambda: did(visited(), times=0), "did_not"),
        ("event without parentheses", lambda: on(x_any(visited)), "write visited(…), with parentheses"),
        ("event by its name", lambda: did(x_any("visited")), "is no event"),
        ("mail without quotes", lambda: send(x_any(visited())), 'send("thanks")'),
        ("cap slip", lambda: send("a", on_cap=x_any("skipp")), "did you mean 'skip'?"),
        ("no list", lambda: on(visited(), x_any(send("a"))), "in square brackets"),
        ("text for steps", lambda: Scenario("a", steps=x_any("hello")), "in square brackets"),
        ("list in list", lambda: Scenario("a", steps=[x_any([send("a")])]), "*steps"),
        ("step without parentheses", lambda: Scenario("a", steps=[x_any(notify_sales)]), "write notify_sales(…)"),
        ("when as a step", lambda: Scenario("a", steps=[x_any(when(hot))]), "branch(…)"),
        ("share as a step", lambda: Scenario("a", steps=[x_any(share("a", 1))]), "split(…)"),
        ("on in branch", lambda: branch(x_any(on(visited()))), "when(did(event), […])"),
        ("steps in branch", lambda: branch(x_any([send("a")])), "branch(when(condition, […])"),
        ("steps in wait_for", lambda: wait_for(x_any(send("a"))), "on(event, […])"),
        ("percent as text", lambda: share("a", x_any("50%")), "percentage"),
        ("dict split", lambda: split(x_any({"a": 50})), 'share("a", 50, […])'),
        ("choose by a number", lambda: choose(x.score, {"1": "a"}, otherwise="b"), "branch"),
        ("wait until a number", lambda: wait_until(x.score), "wait_until(entry.starts_at)"),
        ("wait until a text", lambda: wait_until(x_any("2026-04-01")), "wait_until(entry.starts_at)"),
        ("set the address", lambda: set_lead(email="a@example.com"), "can not be set"),
        ("set tags", lambda: set_lead(tags="a"), "write tag("),
        ("set by reference", lambda: set_lead(plan=x.title), "write a value"),
        ("run with a list", lambda: run("sync", rows=x_any([1])), "no text, number"),
        ("tag of a number", lambda: tag(x_any(5)), 'tag("hot"'),
        ("end of a number", lambda: end(x_any(5)), 'end("sales-told")'),
        ("empty event list", lambda: visited([]), "matches nothing"),
        ("empty event", lambda: visited(""), "without argument for any"),
        ("enters on nothing known", lambda: Scenario("a", enters_on=x_any("created"), steps=[]), "is no event"),
        ("audience a truth", lambda: Scenario("a", audience=x_any(True), steps=[]), "is no condition"),
        ("re_enter a duration", lambda: Scenario("a", re_enter=x_any(days(3)), steps=[]), "re_enter=after(days(30))"),
        ("hand over without why", lambda: hand_to_sales(None), 'write hand_to_sales("'),  # type: ignore[arg-type]
        ("hand over with a step", lambda: hand_to_sales("x", sql=end("sql")), "sql=[…]"),  # type: ignore[arg-type]
        ("hand over within a number", lambda: hand_to_sales("x", within=90), "within=days(90)"),  # type: ignore[arg-type]
        ("call due in a number", lambda: call_task("x", due=1), "due=business_days(1)"),  # type: ignore[arg-type]
    ]


def x_any(value: Any) -> Any:
    """Past mypy, as a marketer's editor would let it pass."""
    return value


@pytest.mark.parametrize(("spelling", "cure"), [pytest.param(*rest, id=name) for name, *rest in _wrong()])
def test_a_spelling_that_cannot_mean_what_it_says_is_refused_and_shows_the_right_one(
    spelling: Callable[[], object], cure: str
) -> None:
    with pytest.raises(AuthoringError) as refused:
        spelling()
    assert cure in str(refused.value)


def test_authoring_errors_are_type_errors_for_python() -> None:
    with pytest.raises(TypeError):
        bool(lead.score >= 50)


def test_a_scenario_holds_what_was_written() -> None:
    scenario = Scenario("hello", enters_on=[created(), downloaded("a")], key=entry.content, steps=[send("hello")])
    assert scenario.enters_on == (created(), downloaded("a"))
    assert scenario.steps == (send("hello"),)
