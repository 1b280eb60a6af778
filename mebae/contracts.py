"""The names of workflows, signals, updates, activities and task queues, with their models.

Workflows use them in `@workflow.defn(name=…)`; everything else starts and tells by name. Nothing here may hold personal
data: Temporal keeps it for ever and in the clear (DESIGN §6).
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel

from mebae.clock import WorldClock
from mebae.journey import Ending, JourneyState, Plan, Settling

JOURNEY = "Journey"
SWEEP = "Sweep"
BROADCAST = "Broadcast"
HANDOVER = "Handover"
CLOCK = "Clock"

JOURNEYS_QUEUE = "journeys"
MAIL_QUEUE = "mail"
SALES_QUEUE = "sales"
SWEEPS_QUEUE = "sweeps"
BROADCASTS_QUEUE = "broadcasts"

NUDGE = "nudge"
LOOK = "look"
PAUSE, RESUME, END = "pause", "resume", "end"
WHERE = "where"

SEND_MAIL, NOTIFY_SALES, RUN = "send_mail", "notify_sales", "run"
SET_LEAD, TAG_LEAD, ENROLL = "set_lead", "tag_lead", "enroll"
RUN_JOB = "run_job"
OPEN_BROADCAST, SEND_BROADCAST, STEER_BROADCAST = "open_broadcast", "send_broadcast", "steer_broadcast"
TEND_HANDOVER = "tend_handover"
HEAR_TIME = "hear_time"
REST, CHOOSE, FINISH, PAUSE_JOURNEY = "rest", "choose", "finish", "pause_journey"

SEARCH_ATTRIBUTES = {
    "Scenario": "Keyword",
    "Version": "Keyword",
    "Step": "Keyword",
    "WaitingFor": "Keyword",
    "Stage": "Keyword",
    "LeadId": "Int",
    "Paused": "Bool",
    "Broadcast": "Keyword",
}
"""What ops can filter by in the Temporal UI."""


class JourneyInput(BaseModel):
    """What a journey starts from. It carries its own map, so that any worker can run it."""

    entry: int
    lead: int
    graph: dict[str, Any]
    mark: int = 0
    stage: str
    clock: WorldClock | None = None
    """None: the machine's time is the world's."""
    state: JourneyState | None = None
    """Where it was, when it is continued as new."""
    fairness: str = ""
    """One of 256 buckets of recipients' domains: no domain's mails hold up another's (`fairness_of`)."""


class StepInput(BaseModel):
    """What an activity of a journey is asked. `now` is given to local ones only; others take their own start time."""

    entry: int
    step: str
    turn: int = 0
    """Of the journey, when this was asked."""
    visit: int = 1
    plan: Plan | None = None
    woke: Settling | None = None
    sheltered: bool = False
    """On a path that sales opened: `exits_when` is not asked."""
    now: AwareDatetime | None = None
    clock: WorldClock | None = None

    def ending(self) -> Ending | None:
        return self.plan if isinstance(self.plan, Ending) else None


class PauseInput(BaseModel):
    """What the gate is told of a pause."""

    entry: int
    paused: bool


class Nudged(BaseModel):
    """Signal: something that entry `entry` listens for may have happened."""

    entry: int
    trigger: str
    event: int


class SweepInput(BaseModel):
    """What a run of a periodic job starts from (`mebae.periodic`)."""

    job: str
    when: str = ""
    """The times of its Schedule, for ops; a Schedule with other times is changed."""
    clock: WorldClock | None = None


class Swept(BaseModel):
    """What a run of a job has done: numbers by words."""

    job: str
    counts: dict[str, int] = {}


class BroadcastStanding(BaseModel):
    """Where a run of a broadcast is, after some of its batches: what the workflow does next, and what ops see."""

    next: Literal["more", "rest", "paused", "over"]
    until: AwareDatetime | None = None
    why: str = ""
    """Of a rest: `zone`, `test`, `late`, or what stalls it."""
    status: str = ""
    part: str = ""
    counts: dict[str, int] = {}
    rate: float = 0.0
    """Mails a second, of the machine's time, while it was sending."""
    winner: str | None = None
    outcome: str | None = None


class BroadcastInput(BaseModel):
    """What a run starts from: its number, or (by a Schedule) the broadcast alone; the activity then says whether it is time."""

    broadcast: str
    run: int | None = None
    when: str = ""
    """The times and the zone of its Schedule, for ops; a Schedule with others is changed."""
    clock: WorldClock | None = None
    paused: bool = False
    standing: BroadcastStanding | None = None
    """Where it was, when it is continued as new."""


class OpenRequest(BaseModel):
    """Whether and how a run begins."""

    broadcast: str
    run: int | None = None
    fired: AwareDatetime | None = None
    """For which time the Schedule has fired."""
    clock: WorldClock | None = None


class BroadcastOpened(BaseModel):
    """The run's number; None where it does not begin, and why."""

    run: int | None = None
    why: str = ""


class RunRequest(BaseModel):
    """One run of a broadcast."""

    run: int
    clock: WorldClock | None = None


class SteerRequest(RunRequest):
    """What a person wants of a run."""

    verb: Literal["pause", "resume", "end"]
    outcome: str = "ended-by-hand"


class HandoverInput(BaseModel):
    """What a hand-over's workflow starts from, and its activity is asked. All else stands in the database."""

    handover: int
    clock: WorldClock | None = None
    """None: the machine's time is the world's."""


class HandoverTended(BaseModel):
    """What the workflow of a hand-over learns: when to look again, if ever."""

    over: bool
    until: AwareDatetime | None = None
    did: str = ""
    """What the clock has just done, for ops."""


class EndRequest(BaseModel):
    """Update: end this journey or broadcast now, with this outcome."""

    outcome: str = "ended-by-hand"


class Where(BaseModel):
    """Query: where a journey is."""

    step: str
    phase: str
    until: datetime | None
    paused: bool
    outcome: str | None
    visits: dict[str, int]


def handover_id(handover: int) -> str:
    """`handover/<number>`."""
    return f"handover/{handover}"


def fairness_of(email: str | None) -> str:
    """The bucket of an address's domain. It names nobody: a bucket holds every 256th domain.

    >>> fairness_of("sato@aoba.example") == fairness_of("Suzuki@Aoba.Example") != fairness_of("mori@tsubaki.example")
    True
    """
    domain = (email or "").rpartition("@")[2].lower()
    return f"domain-{hashlib.sha256(domain.encode()).digest()[0]:02x}" if domain else ""


_WIPED = re.compile(r"erased:([0-9a-f]{12})")


def workflow_id(scenario: str, lead: int, key: str) -> str:
    """`journey/<scenario>/<lead>[/<hash of key>]`: the key may be personal, so only its hash stands in Temporal."""
    return f"journey/{scenario}/{lead}" + (f"/{_hash_of(key)}" if key else "")


def wiped_key(key: str) -> str:
    """What stands in a key's place when its lead is erased: the workflow is called the same.

    >>> wiped_key("sato@aoba.example")
    'erased:ccccdb1e963f'
    >>> workflow_id("s", 7, "sato@aoba.example") == workflow_id("s", 7, wiped_key("sato@aoba.example"))
    True
    """
    return f"erased:{_hash_of(key)}"


def _hash_of(key: str) -> str:
    wiped = _WIPED.fullmatch(key)
    return wiped[1] if wiped is not None else hashlib.sha256(key.encode()).hexdigest()[:12]


def broadcast_workflow_id(broadcast: str, run: int) -> str:
    """Of a run by command. Those by a Schedule are called by it: `broadcast/<broadcast>-<time>`."""
    return f"broadcast/{broadcast}/{run}"
