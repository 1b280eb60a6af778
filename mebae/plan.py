"""What the authoring verbs return: a scenario as written, before it is compiled to a graph. Frozen data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from mebae.conditions import Condition, Pattern, Scalar
from mebae.graph import About, Choice, Series
from mebae.timing import Duration

OnCap = Literal["postpone", "skip", "end"]
OnLate = Literal["pass", "end"]


@dataclass(frozen=True)
class Step:
    """One step as written; `verb` is what an unnamed one is called by (`thanks/wait`)."""

    verb: ClassVar[str]

    @property
    def name(self) -> str | None:
        """The id that the author gave; None if it is to be named after the step before it."""
        return getattr(self, "id", None)

    @property
    def paths(self) -> tuple[Steps, ...]:
        """The lists of steps inside it, in the order written."""
        return ()


Steps = tuple[Step, ...]


@dataclass(frozen=True)
class Send(Step):
    verb = "send"
    mail: str | Choice | Series | About
    id: str | None
    on_cap: OnCap
    otherwise: Steps | None = None
    """What follows when nothing is left to send."""

    @property
    def name(self) -> str | None:
        return self.mail if self.id is None and isinstance(self.mail, str) else self.id

    @property
    def paths(self) -> tuple[Steps, ...]:
        return () if self.otherwise is None else (self.otherwise,)

    @property
    def mails(self) -> tuple[str, ...]:
        """Every mail that it can send, each once."""
        if isinstance(self.mail, str):
            return (self.mail,)
        if isinstance(self.mail, Series):
            return self.mail.series
        if isinstance(self.mail, About):
            return (self.mail.about,)
        return tuple(dict.fromkeys((*self.mail.of.values(), self.mail.otherwise)))


@dataclass(frozen=True)
class Wait(Step):
    verb = "wait"
    span: Duration
    at: str | None
    business: bool
    id: str | None


@dataclass(frozen=True)
class WaitUntil(Step):
    verb = "wait_until"
    date: str
    plus: Duration | None
    minus: Duration | None
    at: str | None
    on_late: OnLate
    id: str | None


@dataclass(frozen=True)
class On:
    """An event that a `wait_for` listens for, and the path that it opens."""

    event: Pattern
    steps: Steps


@dataclass(frozen=True)
class When:
    """A condition of a `branch` or a `wait_for`, and the path that it opens."""

    condition: Condition
    steps: Steps


@dataclass(frozen=True)
class WaitFor(Step):
    verb = "wait_for"
    arms: tuple[On | When, ...]
    within: Duration | None
    otherwise: Steps
    id: str | None

    @property
    def paths(self) -> tuple[Steps, ...]:
        return (*(arm.steps for arm in self.arms), self.otherwise)


@dataclass(frozen=True)
class Branch(Step):
    verb = "branch"
    cases: tuple[When, ...]
    otherwise: Steps
    id: str | None

    @property
    def paths(self) -> tuple[Steps, ...]:
        return (*(case.steps for case in self.cases), self.otherwise)


@dataclass(frozen=True)
class Share:
    """One part of a `split`."""

    name: str
    percent: float
    steps: Steps


@dataclass(frozen=True)
class Split(Step):
    verb = "split"
    shares: tuple[Share, ...]
    id: str | None

    @property
    def paths(self) -> tuple[Steps, ...]:
        return tuple(share.steps for share in self.shares)


@dataclass(frozen=True)
class SetLead(Step):
    verb = "set_lead"
    values: Mapping[str, Scalar]
    id: str | None


@dataclass(frozen=True)
class Tag(Step):
    verb = "tag"
    add: tuple[str, ...]
    remove: tuple[str, ...]
    id: str | None


@dataclass(frozen=True)
class NotifySales(Step):
    verb = "notify_sales"
    message: str
    id: str | None


@dataclass(frozen=True)
class HandToSales(Step):
    verb = "hand_to_sales"
    message: str
    outcomes: tuple[tuple[str, Steps], ...]
    """Each outcome that has a path, and the path."""
    within: Duration | None
    id: str | None

    @property
    def paths(self) -> tuple[Steps, ...]:
        return tuple(steps for _, steps in self.outcomes)


@dataclass(frozen=True)
class CallTask(Step):
    verb = "call_task"
    message: str
    outcomes: tuple[tuple[str, Steps], ...]
    method: str
    script: str
    due: Duration | None
    within: Duration
    id: str | None

    @property
    def paths(self) -> tuple[Steps, ...]:
        return tuple(steps for _, steps in self.outcomes)


@dataclass(frozen=True)
class Enroll(Step):
    verb = "enroll"
    scenario: str
    id: str | None


@dataclass(frozen=True)
class Run(Step):
    verb = "run"
    activity: str
    args: Mapping[str, Scalar]
    id: str | None


@dataclass(frozen=True)
class GoTo(Step):
    """No step of its own in the graph: what comes before it points at the target."""

    verb = "go_to"
    target: str


@dataclass(frozen=True)
class End(Step):
    verb = "end"
    outcome: str


@dataclass(frozen=True)
class After:
    """`re_enter=after(days(30))`."""

    span: Duration


@dataclass(frozen=True)
class PerDay:
    """`starts_at_most=per_day(500)`."""

    count: int


@dataclass(frozen=True)
class Plan:
    """A whole scenario as written; authors write `Scenario(…)`."""

    id: str
    title: str
    enters_on: tuple[Pattern, ...]
    key: Any
    """As written: that it is a reference to the entry is for the compiler to say, beside every other problem."""
    audience: Condition | None
    exits_when: Condition | None
    re_enter: str | After
    steps: Steps
    starts_at_most: PerDay | None = None
