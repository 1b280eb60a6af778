"""The core, alone: stories by hand, then properties over random graphs, outcomes and nudges."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from mebae.conditions import Compare, Pattern
from mebae.graph import (
    FORMAT,
    RESTS,
    Arm,
    Branch,
    CallTask,
    Case,
    End,
    Graph,
    HandToSales,
    NotifySales,
    Path,
    Send,
    Share,
    Split,
    Wait,
    WaitFor,
    WaitUntil,
    arms_of,
)
from mebae.journey import (
    EXIT,
    Act,
    Choose,
    Chosen,
    Command,
    Done,
    Ended,
    Ending,
    Exited,
    Finish,
    Heard,
    IllegalOutcome,
    Journey,
    JourneyState,
    Marks,
    Outcome,
    Park,
    Passed,
    Postponed,
    Refused,
    Rest,
    Resting,
    Settle,
    Settling,
    Stop,
    Unknown,
    Woken,
    share_of,
)
from mebae.timing import Duration

NOON = datetime(2026, 4, 1, 3, 0, tzinfo=UTC)
DAY = timedelta(days=1)
STATE = TypeAdapter(JourneyState)


def graph(*steps: Any, start: str | None = None) -> Graph:
    return Graph(format=FORMAT, scenario="trial", start=start or steps[0].id, steps=steps)


CLICK = Arm(id="reply:click", on=Pattern(event="Email Link Clicked", where={"mail": "hello"}), mail="hello", to="told")
VISIT = Arm(id="reply:visit", on=Pattern(event="Page Viewed", where={"path": "/pricing"}), to="told")
FOLLOW_UP = graph(
    Send(id="hello", mail="hello", next="hello/wait"),
    Wait(id="hello/wait", span=Duration(days=3), next="reminder"),
    Send(id="reminder", mail="reminder", next="reply"),
    WaitFor(id="reply", arms=(CLICK, VISIT), within=Duration(days=7), otherwise="end/quiet"),
    NotifySales(id="told", message="clicked", next="end/told"),
    End(id="end/told", outcome="told"),
    End(id="end/quiet", outcome="quiet"),
)


def resting(until: datetime, deadline: datetime | None = None) -> Resting:
    return Resting(since=NOON, until=until, deadline=deadline or until)


def at_the_reply() -> Journey:
    """A lead who got both mails (marks 4 and 6) and is waited for."""
    journey = Journey.begin(FOLLOW_UP, lead=7, mark=3)
    journey.next()
    journey.next(Done(mark=4, then=resting(NOON + 3 * DAY)))
    journey.next(Woken())
    rest = journey.next(Done(mark=6, then=resting(NOON + 10 * DAY)))
    assert rest == Rest("reply", NOON + 10 * DAY, False)
    return journey


def test_a_mail_writes_the_rest_that_follows_it_and_the_timer_leads_to_the_next_mail() -> None:
    journey = Journey.begin(FOLLOW_UP, lead=7, mark=3)
    assert journey.next() == Act("hello", 1, Settling("hello/wait", Marks(start=3)), None)
    assert journey.next(Done(mark=4, then=resting(NOON + 3 * DAY))) == Rest("hello/wait", NOON + 3 * DAY, False)
    act = journey.next(Woken())
    assert isinstance(act, Act)
    assert act.step == "reminder"
    assert act.woke is not None
    assert (act.woke.step, act.woke.since, act.woke.marks.mails) == ("hello/wait", NOON, {"hello": 4})


def test_a_lead_who_clicks_before_the_limit_is_told_to_sales() -> None:
    journey = at_the_reply()
    journey.hear(CLICK.id)
    assert journey.disturbed
    settle = journey.next()
    assert isinstance(settle, Settle)
    assert settle.rest.since == NOON
    act = journey.next(Heard(CLICK.id, 9))
    assert act == Act("told", 1, Ending("told"), None)
    assert journey.next(Done(then=Ended("told"))) == Stop("told")
    assert journey.state.marks.heard == 9


def test_a_lead_who_stays_quiet_ends_so_after_a_last_look() -> None:
    journey = at_the_reply()
    assert isinstance(journey.next(Woken()), Settle)  # an event may be stored whose nudge is still on its way
    assert journey.next(Passed()) == Finish("quiet")
    assert journey.next(Ended("quiet")) == Stop("quiet")


def test_clicks_count_since_their_mail_and_other_events_since_the_last_mail() -> None:
    marks = at_the_reply().state.marks
    assert marks.after(CLICK) == 4
    assert marks.after(VISIT) == 6
    assert replace(marks, heard=8).after(CLICK) == 8, "an event ends at most one wait"
    assert marks.sent("reminder", 12, ["demo-form"]).after(replace_arm(VISIT, form="demo-form")) == 12


def replace_arm(arm: Arm, **changes: Any) -> Arm:
    return arm.model_copy(update=changes)


def test_a_postponed_mail_is_asked_for_again_with_the_same_visit() -> None:
    journey = Journey.begin(FOLLOW_UP, lead=7)
    first = journey.next()
    assert journey.next(Postponed(NOON + DAY, "mail-server-unavailable")) == Rest("hello", NOON + DAY, True)
    assert journey.next(Woken()) == first


def test_a_lead_who_moved_east_while_the_timer_ran_rests_on() -> None:
    journey = Journey.begin(FOLLOW_UP, lead=7)
    journey.next()
    journey.next(Done(mark=1, then=resting(NOON + 3 * DAY)))
    woken = journey.next(Woken())
    assert isinstance(woken, Act)
    assert woken.woke is not None
    assert journey.next(Postponed(NOON + 4 * DAY, "early")) == Rest("reminder", NOON + 4 * DAY, True)
    assert journey.next(Woken()) == woken, "it is asked about again until the command is carried out"


def test_a_refused_mail_is_skipped_and_an_unknown_one_counts_as_sent() -> None:
    journey = Journey.begin(FOLLOW_UP, lead=7)
    journey.next()
    assert journey.next(Refused("opted-out", then=resting(NOON + DAY))) == Rest("hello/wait", NOON + DAY, False)
    assert journey.state.marks.mails == {}
    journey = Journey.begin(FOLLOW_UP, lead=7)
    journey.next()
    journey.next(Unknown(mark=5, then=resting(NOON + DAY)))
    assert journey.state.marks.mails == {"hello": 5}


def test_an_exit_in_the_middle_of_a_wait_ends_the_journey() -> None:
    journey = Journey.begin(FOLLOW_UP, lead=7)
    journey.next()
    journey.next(Done(mark=1, then=resting(NOON + 3 * DAY)))
    journey.hear(EXIT)
    assert journey.disturbed
    assert isinstance(journey.next(), Settle)
    assert journey.next(Exited("exits-when")) == Stop("exited")
    journey.hear(CLICK.id)
    assert journey.next() == Stop("exited")


def test_a_nudge_for_something_else_disturbs_no_rest() -> None:
    journey = at_the_reply()
    journey.hear("another-step:1234")
    assert not journey.disturbed
    assert isinstance(journey.next(), Rest)


def test_a_nudge_that_comes_while_acting_is_kept_for_the_rest() -> None:
    journey = Journey.begin(FOLLOW_UP, lead=7)
    journey.next()
    journey.next(Done(mark=4, then=resting(NOON + 3 * DAY)))
    journey.next(Woken())
    journey.hear(CLICK.id)
    assert isinstance(journey.next(Done(mark=6, then=resting(NOON + 10 * DAY))), Settle)


def test_a_paused_journey_parks_and_forgets_nothing() -> None:
    journey = at_the_reply()
    journey.pause()
    assert journey.disturbed
    assert journey.next() == Park()
    journey.hear(VISIT.id)
    assert journey.next() == Park()
    journey.resume()
    assert isinstance(journey.next(), Settle)


def test_a_mail_that_was_under_way_at_the_pause_goes_out_at_once_after_it() -> None:
    journey = Journey.begin(FOLLOW_UP, lead=7)
    journey.next()
    journey.pause()
    assert journey.next(Postponed(NOON + DAY, "paused")) == Park()
    journey.resume()
    assert isinstance(journey.next(), Act)


def test_a_date_that_is_past_on_arrival_passes_or_ends() -> None:
    for on_late, expected in (("pass", Finish("done")), ("end", Stop("late"))):
        journey = Journey.begin(
            graph(
                WaitUntil(id="seminar", date="entry.ends_at", on_late=on_late, next="end/done"),
                End(id="end/done", outcome="done"),
            ),
            lead=1,
        )
        journey.next()
        assert journey.next(Passed(late=True)) == expected


def test_a_split_is_stable_for_a_lead_and_keeps_its_percentages() -> None:
    split = Split(id="ab", shares=(Share(name="a", percent=30, to="a"), Share(name="b", percent=70, to="b")))
    ways = [share_of("trial", split, lead) for lead in range(20_000)]
    assert ways == [share_of("trial", split, lead) for lead in range(20_000)]
    assert abs(ways.count("a") / 20_000 - 0.3) < 0.02
    other = split.model_copy(update={"id": "cd"})
    both = sum(a == share_of("trial", other, lead) == "a" for lead, a in enumerate(ways))
    assert abs(both / 20_000 - 0.09) < 0.02, "two splits are independent"


SALES = graph(
    Send(id="hello", mail="hello", next="sales"),
    HandToSales(
        id="sales",
        message="料金ページを閲覧",
        paths=(Path(outcome="sql", to="thanks"), Path(outcome="returned", to="offer")),
        inside=("thanks", "thanks/wait", "meeting", "offer"),
        next="news",
    ),
    Send(id="thanks", mail="thanks", next="thanks/wait"),
    Wait(id="thanks/wait", span=Duration(days=1), next="meeting"),
    Send(id="meeting", mail="meeting", next="end/sql"),
    Send(id="offer", mail="offer", next="news"),
    Send(id="news", mail="news", next="end/done"),
    End(id="end/sql", outcome="sql"),
    End(id="end/done", outcome="done"),
)


def with_sales() -> Journey:
    """A lead who was handed over as soon as its mail was out."""
    journey = Journey.begin(SALES, lead=7)
    act = journey.next()
    assert isinstance(act, Act)
    assert act.plan == Settling("sales", Marks())
    assert journey.next(Done(mark=1, then=resting(NOON + 365 * DAY))) == Rest("sales", NOON + 365 * DAY, False)
    return journey


def test_the_path_that_sales_opened_runs_to_its_end_before_exits_when_is_asked() -> None:
    journey = with_sales()
    journey.hear("sales:sql")
    journey.hear(EXIT)  # being an SQL is what this scenario exits on
    assert isinstance(journey.next(), Settle)
    act = journey.next(Heard("sales:sql", 9))
    assert isinstance(act, Act)
    assert (act.step, act.sheltered) == ("thanks", True)
    assert isinstance(act.plan, Settling)
    assert act.plan.sheltered, "the wait within the path, too"
    journey.next(Done(mark=9, then=resting(NOON + DAY)))
    act = journey.next(Woken())
    assert act == Act("meeting", 1, Ending("sql"), act.woke, True)  # type: ignore[union-attr]
    assert journey.next(Done(mark=10, then=Ended("sql"))) == Stop("sql")


def test_past_the_path_that_sales_opened_exits_when_is_asked_again() -> None:
    journey = with_sales()
    journey.hear("sales:returned")
    journey.next()
    offer = journey.next(Heard("sales:returned", 9))
    assert isinstance(offer, Act)
    assert offer.sheltered
    news = journey.next(Done(mark=9))
    assert isinstance(news, Act)
    assert (news.step, news.sheltered) == ("news", False)


def test_an_outcome_without_a_path_goes_on_after_the_hand_over() -> None:
    journey = with_sales()
    journey.hear("sales:rejected")
    journey.next()
    act = journey.next(Heard("sales:rejected", 9))
    assert isinstance(act, Act)
    assert (act.step, act.sheltered) == ("news", False)


def test_that_sales_accepted_does_not_wake_a_journey_that_has_no_path_for_it() -> None:
    journey = with_sales()
    journey.hear("sales:accepted")
    assert not journey.disturbed


def test_a_call_that_nobody_makes_takes_its_path_when_its_limit_is_over() -> None:
    call = CallTask(id="call", message="m", within=Duration(days=5), paths=(Path(outcome="expired", to="end/none"),), next="end/called")
    journey = Journey.begin(
        graph(call, End(id="end/none", outcome="none"), End(id="end/called", outcome="called")), lead=7
    )
    journey.next()
    journey.next(resting(NOON + 5 * DAY))
    journey.next(Woken())
    assert journey.next(Passed()) == Finish("none")


def test_an_outcome_that_cannot_answer_changes_nothing() -> None:
    journey = at_the_reply()
    before = STATE.dump_json(journey.state)
    with pytest.raises(IllegalOutcome, match="done cannot answer step 'reply'"):
        journey.next(Done())
    assert STATE.dump_json(journey.state) == before


# Properties ----------------------------------------------------------------------------------------------------------


def outcomes(of: list[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(of), unique=True)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Any graph whose loops contain a wait: steps point forward, and only waits also back."""
    size = draw(st.integers(1, 8))
    names = [f"s{i}" for i in range(size)] + ["end"]
    steps: list[Any] = []
    for i in range(size):
        ahead = st.sampled_from(names[i + 1 :])
        anywhere = st.sampled_from(names)
        id = names[i]
        condition = Compare(op="ge", ref="lead.score", to=50)
        kind = draw(st.sampled_from(["send", "wait", "until", "for", "branch", "split", "sales", "hand", "call"]))
        match kind:
            case "send":
                steps.append(Send(id=id, mail=id, next=draw(ahead)))
            case "wait":
                steps.append(Wait(id=id, span=Duration(days=1), next=draw(anywhere)))
            case "until":
                steps.append(
                    WaitUntil(id=id, date="entry.x", on_late=draw(st.sampled_from(["pass", "end"])), next=draw(ahead))
                )
            case "for":
                arms = tuple(
                    Arm(id=f"{id}:{n}", on=Pattern(event=f"E{n}"), to=draw(ahead))
                    for n in range(draw(st.integers(1, 3)))
                )
                steps.append(WaitFor(id=id, arms=arms, within=Duration(days=7), otherwise=draw(ahead)))
            case "hand":
                paths = tuple(Path(outcome=outcome, to=draw(ahead)) for outcome in draw(outcomes(["accepted", "sql", "returned"])))
                inside = tuple(draw(st.lists(ahead, unique=True, max_size=3)))
                steps.append(HandToSales(id=id, message="m", paths=paths, inside=inside, next=draw(ahead)))
            case "call":
                paths = tuple(Path(outcome=outcome, to=draw(ahead)) for outcome in draw(outcomes(["talked", "expired"])))
                steps.append(CallTask(id=id, message="m", within=Duration(days=9), paths=paths, next=draw(anywhere)))
            case "branch":
                steps.append(Branch(id=id, cases=(Case(when=condition, to=draw(ahead)),), otherwise=draw(ahead)))
            case "split":
                shares = (Share(name="a", percent=50, to=draw(ahead)), Share(name="b", percent=50, to=draw(ahead)))
                steps.append(Split(id=id, shares=shares))
            case _:
                steps.append(NotifySales(id=id, message="m", next=draw(ahead)))
    return graph(*steps, End(id="end", outcome="done"))


def answer(journey: Journey, command: Command, dice: random.Random) -> Outcome | None:
    """Any outcome that may answer a command."""
    step = journey.graph.step(journey.state.step)
    later = NOON + timedelta(days=dice.randint(0, 5))
    if dice.random() < 0.05 and not isinstance(command, (Rest, Park)):
        return Exited("exits-when")
    if dice.random() < 0.1 and not isinstance(command, (Rest, Park)):
        return Postponed(later, "busy")

    def settled(id: str) -> Any:
        step = journey.graph.step(id)
        choices: list[Any] = [Resting(NOON, later, later), Resting(NOON, NOON, later), Passed(dice.random() < 0.3)]
        if arms_of(step):
            choices.append(Heard(dice.choice(arms_of(step)).id, dice.randint(0, 9)))
        return dice.choice(choices)

    match command:
        case Act():
            then: Any = None
            if isinstance(command.plan, Settling):
                then = settled(command.plan.step)
            elif isinstance(command.plan, Ending):
                then = Ended(command.plan.outcome)
            kinds: list[Any] = [Done(mark=dice.randint(0, 9), then=then), Refused("opted-out", then=then)]
            if isinstance(step, Send):
                kinds.append(Unknown(mark=3, then=then))
            return dice.choice(kinds)
        case Settle():
            return settled(command.rest.step)
        case Choose():
            assert isinstance(step, Branch)
            return Chosen(dice.choice([step.cases[0].to, step.otherwise]))
        case Finish():
            return Ended(command.outcome)
        case Rest():
            return Woken() if dice.random() < 0.7 or not journey.disturbed else None
        case _:
            return None


def drive(journey: Journey, seed: int, *, resume: bool = False, most: int = 60) -> list[Command]:
    """Runs a journey on random answers and nudges; with `resume`, made anew from its serialised state at every step."""
    dice = random.Random(seed)
    commands: list[Command] = []
    outcome: Outcome | None = None
    while len(commands) < most:
        command = journey.next(outcome)
        commands.append(command)
        if isinstance(command, Stop):
            break
        if resume:
            journey = Journey(journey.graph, STATE.validate_json(STATE.dump_json(journey.state)))
        if isinstance(command, Park):
            journey.resume()
        elif dice.random() < 0.1:
            journey.pause()
        if dice.random() < 0.4:
            triggers = [arm.id for step in journey.graph.steps for arm in arms_of(step)]
            journey.hear(dice.choice([*triggers, EXIT, "stale"]))
        outcome = None if isinstance(command, Park) else answer(journey, command, dice)
    return commands


@given(graphs(), st.integers())
@settings(max_examples=300, deadline=None)
def test_it_always_ends_or_rests(graph: Graph, seed: int) -> None:
    commands = drive(Journey.begin(graph, lead=seed % 1000), seed)
    busy = 0
    for command in commands:
        quiet = isinstance(command, (Rest, Park, Stop))
        busy = 0 if quiet else busy + 1
        # Every step once between two rests, and again for those whose wait had passed on arrival.
        assert busy <= 4 * len(graph.steps) + 8


@given(graphs(), st.integers())
@settings(max_examples=300, deadline=None)
def test_it_does_nothing_after_an_exit_or_an_end(graph: Graph, seed: int) -> None:
    journey = Journey.begin(graph, lead=1)
    commands = drive(journey, seed)
    if isinstance(commands[-1], Stop):
        journey.hear(EXIT)
        assert journey.next() == commands[-1]
        with pytest.raises(IllegalOutcome):
            journey.next(Done())


@given(graphs(), st.integers())
@settings(max_examples=300, deadline=None)
def test_resuming_from_its_state_anywhere_gives_the_same_journey(graph: Graph, seed: int) -> None:
    straight = drive(Journey.begin(graph, lead=1), seed)
    assert straight == drive(Journey.begin(graph, lead=1), seed), "same state, same commands"
    assert straight == drive(Journey.begin(graph, lead=1), seed, resume=True)


@given(graphs(), st.integers())
@settings(max_examples=200, deadline=None)
def test_visits_count_arrivals_and_only_rests_rest(graph: Graph, seed: int) -> None:
    journey = Journey.begin(graph, lead=1)
    for command in drive(journey, seed):
        if isinstance(command, Rest) and not command.postponed:
            assert isinstance(graph.step(command.step), RESTS)
    assert all(count >= 1 for count in journey.state.visits.values())
