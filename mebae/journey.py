"""The whole behaviour of a journey, without I/O.

A journey is one lead's run through one graph. `Journey.next(outcome)` takes what came of the last command and gives
the next one; `Journey.hear(trigger)` says that something may have happened, and is legal at any moment. There is no
clock, no database and no Temporal here: a driver (the workflow, the simulator, a test) carries the commands out.

    command   the driver …                                            and answers with
    -------   -----------------------------------------------------   ------------------------------------------
    Act       does what the step says; if `plan` is given also the    Done, Refused, Unknown (each with `then`)
              next rest or the end, in the same transaction
    Settle    puts the journey to rest, or says how the rest ended    Resting, Heard, Passed
    Choose    finds the first true case of a branch                   Chosen
    Finish    writes the end                                          Ended
    (these four may also be answered with Postponed, Failed, Exited or Ended)
    Rest      waits until the moment, or until `disturbed`            Woken when the moment came, else nothing
    Park      waits until resumed                                     nothing
    Stop      is done                                                 (there is no next)

What depends on data, zones or calendars is decided by whoever carries out Act, Settle and Choose, so that in Temporal
it is recorded. An exit may be the answer to each of them, and after it nothing is done any more.

Four rules that are easy to miss:

- *A nudge proves nothing.* It only makes a resting journey ask again (`Settle`); the data decide.
- *A wait that is over is asked about once more* by the next command (`woke`): the lead may have moved to another zone
  while the timer ran. `Postponed` then sends the journey back to rest.
- *An event ends at most one wait.* Events count since the later of: the mail they answer, the last mail, the start, and
  the event that ended the wait before (`Marks`). Marks are places in the lead's stored order, not times.
- *A path that sales opened runs to its end.* A journey that asks something of sales (`WITH_SALES`) rests until there is an outcome;
  in the path that it opens `exits_when` is not asked (`sheltered`), for SQL is often the very thing that it asks about.

All that outlives a command is in `JourneyState`; a journey made anew from it goes on in the same way.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from mebae.graph import (
    ACTS,
    NOT_CALLED,
    RESTS,
    WITH_SALES,
    Arm,
    Branch,
    End,
    Graph,
    Send,
    Split,
    Step,
    Wait,
    WaitFor,
    WaitUntil,
    arms_of,
    outcomes_of,
)
from mebae.words import STAGES

EXIT = "exit"
"""The trigger of `exits_when`."""
CLOSED = "closed"
"""What a journey is told whose row was ended by somebody else (an erased lead): there is nothing to ask any more."""
NOTHING_LEFT = "nothing-left"
"""Why `send_next` sent nothing: the lead has had all that suits it."""
PAUSED = "paused"
"""Why the gate postpones a mail that was under way when its journey was paused."""


@dataclass(slots=True)
class Marks:
    """From where in the lead's stored order each kind of event counts."""

    start: int = 0
    last_mail: int = 0
    mails: dict[str, int] = field(default_factory=dict)
    """Send step → the mark of its last mail."""
    forms: dict[str, int] = field(default_factory=dict)
    """Form → the mark of the mail that carried it."""
    heard: int = 0
    """The event that ended the last wait."""

    def after(self, arm: Arm) -> int:
        """Events later than this may end a wait through this arm."""
        since = max(self.start, self.last_mail)
        if arm.mail is not None:
            since = self.mails.get(arm.mail, since)
        elif arm.form is not None:
            since = self.forms.get(arm.form, since)
        return max(since, self.heard)

    def sent(self, step: str, mark: int, forms: list[str]) -> Marks:
        """The marks after a mail went out."""
        return replace(
            self,
            last_mail=max(self.last_mail, mark),
            mails={**self.mails, step: mark},
            forms={**self.forms, **dict.fromkeys(forms, mark)},
        )


@dataclass(slots=True)
class Settling:
    """A rest to be taken up (`since` is None) or looked at again."""

    step: str
    marks: Marks
    since: datetime | None = None
    visit: int = 1
    sheltered: bool = False
    """Whether the step stands in a path that sales opened: `exits_when` is not asked."""
    kind: Literal["settle"] = "settle"


@dataclass(slots=True)
class Ending:
    """An end to be written."""

    outcome: str
    kind: Literal["end"] = "end"


Plan = Annotated[Settling | Ending, Field(discriminator="kind")]


# Commands ------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Act:
    step: str
    visit: int
    plan: Settling | Ending | None
    woke: Settling | None
    sheltered: bool = False


@dataclass(slots=True)
class Settle:
    rest: Settling
    woke: Settling | None


@dataclass(slots=True)
class Choose:
    step: str
    woke: Settling | None
    sheltered: bool = False


@dataclass(slots=True)
class Rest:
    step: str
    until: datetime
    postponed: bool


@dataclass(slots=True)
class Finish:
    outcome: str


@dataclass(slots=True)
class Park:
    pass


@dataclass(slots=True)
class Stop:
    outcome: str


Command = Act | Settle | Choose | Rest | Finish | Park | Stop


# Outcomes ------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Resting:
    """The journey rests: wake it at `until`, which is the deadline or an earlier moment at which to ask again."""

    since: datetime
    until: datetime
    deadline: datetime
    stage: str | None = None
    score: str | None = None
    """With its main reasons, for the eyes of ops."""
    kind: Literal["resting"] = "resting"


@dataclass(slots=True)
class Heard:
    """An arm of a `wait_for` came true, or sales answered, by the event at `seq` (0: by a condition)."""

    arm: str
    seq: int
    kind: Literal["heard"] = "heard"


@dataclass(slots=True)
class Passed:
    """The rest is over by time; `late`: its date was past when the journey arrived."""

    late: bool = False
    kind: Literal["passed"] = "passed"


@dataclass(slots=True)
class Exited:
    """The journey is over before its end: `exits_when`, an erased lead, an entry that is closed already."""

    why: str
    kind: Literal["exited"] = "exited"


@dataclass(slots=True)
class Ended:
    """The end is written."""

    outcome: str
    kind: Literal["ended"] = "ended"


Then = Annotated[Resting | Heard | Passed | Exited | Ended, Field(discriminator="kind")]


@dataclass(slots=True)
class Done:
    """The act is done. For a mail: `mark`, and the forms that it carries."""

    mark: int | None = None
    forms: list[str] = field(default_factory=list)
    then: Then | None = None
    kind: Literal["done"] = "done"


@dataclass(slots=True)
class Refused:
    """The act was refused for good (why, as a code); the journey goes on to the next step."""

    why: str
    then: Then | None = None
    kind: Literal["refused"] = "refused"


@dataclass(slots=True)
class Unknown:
    """Nobody can say whether the mail went out; it is listed for a person, and the journey goes on as if it had."""

    mark: int
    forms: list[str] = field(default_factory=list)
    then: Then | None = None
    kind: Literal["unknown"] = "unknown"


@dataclass(slots=True)
class Postponed:
    """Not now: ask again at `until`."""

    until: datetime
    why: str
    kind: Literal["postponed"] = "postponed"


@dataclass(slots=True)
class Failed:
    """The command could not be carried out (why, as a code). An act that failed for good (`final`) is refused; anything
    else is asked for again at `until`."""

    why: str
    final: bool
    until: datetime
    kind: Literal["failed"] = "failed"


@dataclass(slots=True)
class Chosen:
    """The branch's way."""

    to: str
    kind: Literal["chosen"] = "chosen"


@dataclass(slots=True)
class Woken:
    """The moment of a `Rest` came."""

    kind: Literal["woken"] = "woken"


Outcome = Annotated[
    Done | Refused | Unknown | Postponed | Failed | Exited | Chosen | Resting | Heard | Passed | Ended | Woken,
    Field(discriminator="kind"),
]

ALWAYS: tuple[type, ...] = (Postponed, Failed, Exited, Ended)
"""What can answer every command but `Rest`. `Ended`: the end was written, and the answer that said so was lost."""

Phase = Literal["ready", "resting", "postponed", "ended"]


class IllegalOutcome(Exception):
    """An outcome that cannot answer the command; the journey is unchanged."""


@dataclass(slots=True)
class JourneyState:
    """All that a journey must remember."""

    lead: int
    step: str
    phase: Phase = "ready"
    visits: dict[str, int] = field(default_factory=dict)
    marks: Marks = field(default_factory=Marks)
    since: datetime | None = None
    until: datetime | None = None
    deadline: datetime | None = None
    woke: Settling | None = None
    """The rest that time ended, until the next command has been carried out."""
    heard: list[str] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    """The steps whose answer by sales opened the path on which it is, the outer one first."""
    paused: bool = False
    outcome: str | None = None
    why: str | None = None
    """Why it was postponed or exited, as a code."""
    stage: str = STAGES[0]
    """The lead's stage at the last rest, for the eyes of ops."""
    score: str | None = None
    """Its score then, with the rules that gave most of it."""
    refused: int = 0
    unknown: int = 0
    turn: int = 0
    """How many outcomes it has taken; the journey's row keeps the latest, for those who look into what happened."""


class Journey:
    """One lead's run through one graph. See the module's text."""

    __slots__ = ("graph", "state")

    def __init__(self, graph: Graph, state: JourneyState) -> None:
        self.graph = graph
        self.state = state

    @classmethod
    def begin(cls, graph: Graph, lead: int, *, mark: int = 0, stage: str = STAGES[0]) -> Journey:
        """A journey at its start. `mark` is the place of the entry's event: later ones count for waits."""
        journey = cls(graph, JourneyState(lead=lead, step=graph.start, marks=Marks(start=mark), stage=stage))
        journey._move(graph.start)
        return journey

    # What a driver calls ---------------------------------------------------------------------------------------------

    def next(self, outcome: Outcome | None = None) -> Command:
        """Takes the outcome of the last command, if there is one, and gives the next command."""
        if outcome is not None:
            self._take(outcome)
        state = self.state
        if state.phase == "ended":
            return Stop(state.outcome or "")
        if state.paused:
            return Park()
        if state.phase in ("resting", "postponed"):
            if not self._disturbed():
                assert state.until is not None
                return Rest(state.step, state.until, state.phase == "postponed")
            state.heard.clear()
            state.phase = "ready"
        step = self.graph.step(state.step)
        if isinstance(step, ACTS):
            return Act(step.id, state.visits[step.id], self._plan(step.next), state.woke, bool(state.opened))
        if isinstance(step, RESTS):
            ask = Settling(step.id, state.marks, state.since, state.visits[step.id], bool(state.opened))
            return Settle(ask, state.woke)
        if isinstance(step, Branch):
            return Choose(step.id, state.woke, bool(state.opened))
        assert isinstance(step, End)
        return Finish(step.outcome)

    def hear(self, trigger: str) -> None:
        """Something that this journey listens for may have happened. Legal at any moment; an ended journey is deaf.

        `CLOSED` alone is no question: the row says already that it is over, and the journey ends, parked or not.
        """
        state = self.state
        if trigger == CLOSED:
            if state.phase != "ended":
                self._end("exited", CLOSED)
        elif state.phase != "ended" and trigger not in state.heard:
            state.heard.append(trigger)

    @property
    def disturbed(self) -> bool:
        """Whether a rest is to be broken off: `next` has something else to say than `Rest`."""
        return self.state.paused or self._disturbed()

    def pause(self) -> None:
        """Parks the journey before its next command; what it hears meanwhile is kept."""
        self.state.paused = True

    def resume(self) -> None:
        """Goes on. An act that the gate turned away only for the pause is tried at once."""
        state = self.state
        state.paused = False
        if state.phase == "postponed" and state.why == PAUSED:
            state.phase = "ready"

    def stop(self, outcome: str, why: str) -> None:
        """Ends the journey from outside (a person, an erasure)."""
        self._end(outcome, why)

    # How it moves ----------------------------------------------------------------------------------------------------

    def _disturbed(self) -> bool:
        state = self.state
        if state.phase not in ("resting", "postponed") or not state.heard:
            return False
        if EXIT in state.heard:
            return True
        step = self.graph.step(state.step)
        return state.phase == "resting" and any(arm.id in state.heard for arm in arms_of(step))

    def _take(self, outcome: Outcome) -> None:
        state = self.state
        step = self.graph.step(state.step)
        if type(outcome) not in self._legal(step):
            raise IllegalOutcome(f"{outcome.kind} cannot answer step '{step.id}' ({step.do}, {state.phase})")
        state.turn += 1
        if isinstance(outcome, Failed):
            final = outcome.final and isinstance(step, ACTS)
            outcome = Refused(outcome.why) if final else Postponed(outcome.until, outcome.why)
        if not isinstance(outcome, (Woken, Postponed)):
            state.woke = None
        match outcome:
            case Done() | Unknown():
                assert isinstance(step, ACTS)
                if isinstance(step, Send) and outcome.mark is not None:
                    state.marks = state.marks.sent(step.id, outcome.mark, outcome.forms)
                state.unknown += isinstance(outcome, Unknown)
                self._move(step.next)
                self._follow(outcome.then)
            case Refused():
                assert isinstance(step, ACTS)
                if outcome.why == NOTHING_LEFT and isinstance(step, Send):
                    self._move(step.nothing or step.next)
                else:
                    state.refused += 1
                    state.why = outcome.why
                    self._move(step.next)
                self._follow(outcome.then)
            case Postponed() if outcome.why == PAUSED and not state.paused:
                pass  # resumed while the gate was answering: ask again at once
            case Postponed():
                state.phase, state.until, state.why = "postponed", outcome.until, outcome.why
            case Chosen():
                self._move(outcome.to)
            case Woken():
                self._wake(step)
            case _:
                self._follow(outcome)

    def _follow(self, then: Resting | Heard | Passed | Exited | Ended | None) -> None:
        """What became of the step at which the journey now stands."""
        state = self.state
        step = self.graph.step(state.step)
        match then:
            case None:
                pass
            case Resting():
                state.phase, state.since, state.until, state.deadline = "resting", then.since, then.until, then.deadline
                state.stage, state.score = then.stage or state.stage, then.score or state.score
                state.why = None
            case Heard():
                state.marks = replace(state.marks, heard=max(state.marks.heard, then.seq))
                if isinstance(step, WITH_SALES):
                    state.opened.append(step.id)
                self._move(next(arm.to for arm in arms_of(step) if arm.id == then.arm))
            case Passed() if isinstance(step, WaitFor):
                self._move(step.otherwise)
            case Passed() if isinstance(step, WITH_SALES):
                self._move(outcomes_of(step)[NOT_CALLED] if step.do == "call_task" else step.next)
            case Passed():
                assert isinstance(step, (Wait, WaitUntil))
                if then.late and isinstance(step, WaitUntil) and step.on_late == "end":
                    self._end("late", "late")
                else:
                    self._move(step.next)
            case Exited():
                self._end("exited", then.why)
            case Ended():
                self._end(then.outcome, None)

    def _wake(self, step: Step) -> None:
        """Time ended a rest, or it is time to ask again."""
        state = self.state
        over = state.phase == "resting" and state.until == state.deadline
        state.phase = "ready"
        if over and isinstance(step, (Wait, WaitUntil)):
            woke = Settling(step.id, state.marks, state.since)
            self._move(step.next)
            state.woke = woke

    def _move(self, to: str) -> None:
        """Arrives at a step; splits are passed on the way, for they need no data."""
        state = self.state
        to = self._land(to)
        state.opened = self._still_open(to)
        state.step, state.phase = to, "ready"
        state.since = state.until = state.deadline = None
        state.visits[to] = state.visits.get(to, 0) + 1

    def _land(self, to: str) -> str:
        step = self.graph.step(to)
        while isinstance(step, Split):
            step = self.graph.step(share_of(self.graph.scenario, step, self.state.lead))
        return step.id

    def _still_open(self, to: str) -> list[str]:
        """Of the paths that sales opened, those on which the journey still is at this step."""
        opened = list(self.state.opened)
        while opened and to not in self.graph.step(opened[-1]).inside:  # type: ignore[union-attr]
            opened.pop()
        return opened

    def _plan(self, to: str) -> Settling | Ending | None:
        """A rest or an end that statically follows an act is written by the act itself: it saves history."""
        step = self.graph.step(self._land(to))
        if isinstance(step, RESTS):
            visit = self.state.visits.get(step.id, 0) + 1
            return Settling(step.id, self.state.marks, visit=visit, sheltered=bool(self._still_open(step.id)))
        return Ending(step.outcome) if isinstance(step, End) else None

    def _end(self, outcome: str, why: str | None) -> None:
        state = self.state
        state.phase, state.outcome, state.why = "ended", outcome, why
        state.heard.clear()
        state.since = state.until = state.deadline = None

    def _legal(self, step: Step) -> tuple[type, ...]:
        """Which outcomes can answer now."""
        if self.state.phase == "ended":
            return ()
        if self.state.phase in ("resting", "postponed"):
            return (Woken,)
        if isinstance(step, ACTS):
            return (Done, Refused, Unknown, *ALWAYS)
        if isinstance(step, RESTS):
            return (Resting, Heard, Passed, *ALWAYS)
        if isinstance(step, Branch):
            return (Chosen, *ALWAYS)
        return ALWAYS


def first_rest(graph: Graph, lead: int) -> Step:
    """Where a journey will rest first, as far as the graph alone says so: its first step, or the rest that follows it."""
    journey = Journey.begin(graph, lead)
    step = graph.step(journey.state.step)
    plan = journey._plan(step.next) if isinstance(step, ACTS) else None
    return graph.step(plan.step) if isinstance(plan, Settling) else step


def share_of(scenario: str, split: Split, lead: int) -> str:
    """Where a lead goes at a split: stable for the lead, independent between splits."""
    digest = hashlib.sha256(f"{scenario}/{split.id}/{lead}".encode()).digest()
    point = int.from_bytes(digest[:8], "big") / 2**64 * 100
    for share in split.shares:
        point -= share.percent
        if point < 0:
            return share.to
    return split.shares[-1].to
