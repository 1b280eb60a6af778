"""What a scenario compiles to: frozen data with a format number and a content hash, which every journey carries with it.

Steps refer to each other by id. An id never changes because another step was put before it, so pinning, counting and
migration can rely on it (DESIGN §4).
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field

from mebae.conditions import Condition, Data, Pattern, Scalar
from mebae.hashed import Hashed
from mebae.timing import Duration

FORMAT = 1
"""Raised when a graph of today could not be read by the code of yesterday. Every past format must still load."""


class Choice(Data):
    """`choose(lead.industry, {"manufacturing": "case-mfg"}, otherwise="case")`."""

    ref: str
    of: dict[str, str]
    otherwise: str


class Send(Data):
    """Send a mail, through the gate."""

    do: Literal["send"] = "send"
    id: str
    mail: str | Choice
    on_cap: Literal["postpone", "skip", "end"] = "postpone"
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
    Send | Wait | WaitUntil | WaitFor | Branch | Split | SetLead | Tag | NotifySales | Enroll | Run | End,
    Field(discriminator="do"),
]
ACTS = (Send, SetLead, Tag, NotifySales, Enroll, Run)
"""Steps that do something; each is one activity."""
RESTS = (Wait, WaitUntil, WaitFor)
"""Steps at which a journey rests."""


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


def waiting_for(step: Step) -> str:
    """What a journey that rests here waits for, in a few words for ops."""
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
        case End():
            return ()
        case _:
            return (step.next,)
