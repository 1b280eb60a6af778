"""What a scenario compiles to: frozen data with a format number and a content hash, which every journey carries with it.

Steps refer to each other by id. An id never changes because another step was put before it, so pinning, counting and
migration can rely on it (DESIGN §4).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field

from mebae.conditions import Condition, Data, Pattern, Scalar, matches
from mebae.handover import EVENT, OUTCOME
from mebae.hashed import Hashed
from mebae.timing import Duration

FORMAT = 2
"""Raised when a graph of today could not be read by the code of yesterday. Every past format must still load.

Format 2 brought hand-over and calls. A graph without them is compiled to format 1, and so keeps its version.
"""


CALLED = "Call Completed"
HANDOVER_EVENTS = {OUTCOME[move]: EVENT[move] for move in OUTCOME}
"""The event that tells of each outcome."""
HANDOVER_ENDS = ("rejected", "returned", "expired", "won", "lost", "withdrawn")
"""After these there is nothing more to wait for."""
AFTER_SQL = ("opportunity", "won", "lost")


class Choice(Data):
    """`choose(lead.industry, {"manufacturing": "case-mfg"}, otherwise="case")`."""

    ref: str
    of: dict[str, str]
    otherwise: str


class Series(Data):
    """`send_next("tip-1", "tip-2", id="tips")`: the first of these mails that the lead has not had."""

    series: tuple[str, ...]


class About(Data):
    """`send_next(mail="recommendation", id="next-piece")`: this mail, about the piece of the catalogue that suits the lead best."""

    about: str
    topics: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    stage: str | None = None
    """For leads of this stage instead of the lead's own."""


class Send(Data):
    """Send a mail, through the gate."""

    do: Literal["send"] = "send"
    id: str
    mail: str | Choice | Series | About
    on_cap: Literal["postpone", "skip", "end"] = "postpone"
    nothing: str | None = None
    """Where it goes when the lead has had all; None: to the next step."""
    next: str


class Wait(Data):
    """Rest for a span, then until a local time of day, then until a business day."""

    do: Literal["wait"] = "wait"
    id: str
    span: Duration
    at: str | None = None
    business: bool = False
    """Move to the next business day if the day is none."""
    next: str


class WaitUntil(Data):
    """Rest until a date of the lead or the entry (plus or minus a span)."""

    do: Literal["wait_until"] = "wait_until"
    id: str
    date: str
    plus: Duration | None = None
    minus: Duration | None = None
    at: str | None = None
    on_late: Literal["pass", "end"] = "pass"
    next: str


class Arm(Data):
    """One thing a `wait_for` listens for: an event `on`, or a condition `when`."""

    id: str
    """The trigger id: the step id and the hash of the pattern or condition."""
    on: Pattern | None = None
    when: Condition | None = None
    mail: str | None = None
    """A send step of this scenario: count events since that mail was sent."""
    form: str | None = None
    """A form: count events since the mail that carries it was sent."""
    to: str


    def hears(self, scenario: str, name: str, properties: Mapping[str, object]) -> bool:
        """Whether an event is what it listens for. A mail that it names is one of its own scenario: others may have mails of
        the same id, and an event that says whose mail it was is held to that."""
        if self.on is None or not matches(self.on, name, properties):
            return False
        return self.mail is None or ("broadcast" not in properties and properties.get("scenario", scenario) == scenario)


class WaitFor(Data):
    """Rest until something happens, always with a limit."""

    do: Literal["wait_for"] = "wait_for"
    id: str
    arms: tuple[Arm, ...]
    within: Duration
    otherwise: str


class Case(Data):
    when: Condition
    to: str


class Branch(Data):
    """Go where the first true condition points."""

    do: Literal["branch"] = "branch"
    id: str
    cases: tuple[Case, ...]
    otherwise: str


class Share(Data):
    name: str
    percent: float
    to: str


class Split(Data):
    """Percentages, stable per lead."""

    do: Literal["split"] = "split"
    id: str
    shares: tuple[Share, ...]


class SetLead(Data):
    do: Literal["set_lead"] = "set_lead"
    id: str
    values: dict[str, Scalar]
    next: str


class Tag(Data):
    do: Literal["tag"] = "tag"
    id: str
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    next: str


class NotifySales(Data):
    """Tell sales by mail, once per visit."""

    do: Literal["notify_sales"] = "notify_sales"
    id: str
    message: str
    next: str


class Path(Data):
    """Where an outcome of a hand-over or a call leads."""

    outcome: str
    to: str


class HandToSales(Data):
    """Give the lead to sales, or join the hand-over that is under way, and rest until it has an outcome that ends this step."""

    do: Literal["hand_to_sales"] = "hand_to_sales"
    id: str
    message: str = ""
    within: Duration | None = None
    """The longest rest; None: see `HAND_OVER_WITHIN`."""
    paths: tuple[Path, ...] = ()
    inside: tuple[str, ...] = ()
    """The steps of its paths: `exits_when` is asked only when they are done (DESIGN §10)."""
    next: str


class CallTask(Data):
    """Ask inside sales to call, and rest until they did."""

    do: Literal["call_task"] = "call_task"
    id: str
    message: str = ""
    method: str = "phone"
    script: str = ""
    due: Duration | None = None
    """By when, in business time; None: what the rules of sales say."""
    within: Duration
    """The longest rest: then the call is asked for no more."""
    paths: tuple[Path, ...] = ()
    inside: tuple[str, ...] = ()
    next: str


class Enroll(Data):
    """Start another scenario for this lead."""

    do: Literal["enroll"] = "enroll"
    id: str
    scenario: str
    next: str


class Run(Data):
    """Call a registered activity: the way out to any Python."""

    do: Literal["run"] = "run"
    id: str
    activity: str
    args: dict[str, Scalar] = {}
    next: str


class End(Data):
    do: Literal["end"] = "end"
    id: str
    outcome: str


Step = Annotated[
    Send | Wait | WaitUntil | WaitFor | Branch | Split | SetLead | Tag | NotifySales | HandToSales | CallTask | Enroll | Run | End,
    Field(discriminator="do"),
]
ACTS = (Send, SetLead, Tag, NotifySales, Enroll, Run)
"""Steps that do something; each is one activity."""
WITH_SALES = (HandToSales, CallTask)
"""Steps that ask something of sales, and rest until there is an answer. Putting the journey to rest there asks."""
RESTS = (Wait, WaitUntil, WaitFor, *WITH_SALES)
"""Steps at which a journey rests."""
HAND_OVER_WITHIN = Duration(days=365)
"""How long a journey rests at most at a hand-over: sales' own clocks are shorter, until it has become an opportunity."""
CALL_OUTCOMES = ("appointment", "talked", "no_answer")
NOT_CALLED = "expired"
"""The path of a call that nobody made in time."""


class PerDay(Data):
    """At most so many in a day of the workspace."""

    count: int = Field(ge=1)


class Graph(Hashed):
    """A compiled scenario. `version` is the hash of its content; equal content gives the equal version on any machine."""

    newest_format = FORMAT
    called = "graph"

    scenario: str
    title: str = ""
    enters_on: tuple[Pattern, ...] = ()
    key: str | None = None
    """A reference such as `entry.content`: one journey for each value."""
    audience: Condition | None = None
    exits_when: Condition | None = None
    re_enter: Literal["never", "always"] | Duration = "never"
    """A span: again when so much time has passed since the last entry ended."""
    starts_at_most: PerDay | None = None
    """Entries beyond it start on a later day."""
    start: str
    steps: tuple[Step, ...]

    @cached_property
    def _by_id(self) -> dict[str, Any]:
        return {step.id: step for step in self.steps}

    def step(self, id: str) -> Step:
        """The step of this id; `KeyError` if there is none."""
        return self._by_id[id]  # type: ignore[no-any-return]

    def has(self, id: str) -> bool:
        return id in self._by_id


def arms_of(step: Step) -> tuple[Arm, ...]:
    """What a rest listens for; empty for one that only time ends."""
    match step:
        case WaitFor():
            return step.arms
        case HandToSales():
            return tuple(
                Arm(id=f"{step.id}:{outcome}", on=Pattern(event=HANDOVER_EVENTS[outcome]), to=to)
                for outcome, to in outcomes_of(step).items()
            )
        case CallTask():
            return tuple(
                Arm(id=f"{step.id}:{outcome}", on=Pattern(event=CALLED, where={"outcome": outcome}), to=to)
                for outcome, to in outcomes_of(step).items()
                if outcome != NOT_CALLED
            )
        case _:
            return ()


def outcomes_of(step: HandToSales | CallTask) -> dict[str, str]:
    """The outcomes that end this rest, each with where it leads.

    A hand-over that comes back, is won or lost always ends it; SQL does unless a path waits for what comes after it; that it was
    accepted, or became an opportunity, only where that has a path.
    """
    paths = {path.outcome: path.to for path in step.paths}
    if isinstance(step, CallTask):
        return dict.fromkeys((*CALL_OUTCOMES, NOT_CALLED), step.next) | paths
    ends = dict.fromkeys(HANDOVER_ENDS, step.next)
    if paths.keys().isdisjoint(AFTER_SQL):
        ends["sql"] = step.next
    return ends | paths


def waiting_for(step: Step) -> str:
    """What a journey that rests here waits for, in a few words for ops."""
    if isinstance(step, WITH_SALES):
        return {"hand_to_sales": "sales", "call_task": "a call"}[step.do]
    if isinstance(step, WaitFor):
        return ", ".join(arm.on.event if arm.on is not None else "condition" for arm in step.arms)[:200]
    return "time"


def targets(step: Step) -> tuple[str, ...]:
    """The ids to which a step can go, in the order written."""
    match step:
        case WaitFor():
            return (*(arm.to for arm in step.arms), step.otherwise)
        case Branch():
            return (*(case.to for case in step.cases), step.otherwise)
        case Split():
            return tuple(share.to for share in step.shares)
        case HandToSales() | CallTask():
            return (*(path.to for path in step.paths), step.next)
        case Send(nothing=str(nothing)):
            return (nothing, step.next)
        case End():
            return ()
        case _:
            return (step.next,)
