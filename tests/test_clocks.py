"""R10: a worker whose machine's clock is off by three days. Nothing is sent early, and nothing twice."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Session
from temporalio.testing import ActivityEnvironment

from activities import broadcasts, calling, sweeps
from activities.calling import steady_now, world_now
from activities.sweeps import SweepActivities
from mebae.clock import WorldClock
from mebae.contracts import StepInput, SweepInput
from mebae.periodic import Every, Job, repeated
from mebae.store.database import Database

ROOT = Path(__file__).resolve().parents[1]
SERVER = datetime(2026, 4, 1, 3, 0, tzinfo=UTC)
"""Temporal's time."""
OFF = timedelta(days=3)

ASKS = {
    "mebae/applier.py": "for commands only: the worker gives it Temporal's time",
    "mebae/crm/rounds.py": "for tests only: the worker gives it Temporal's time",
    "mebae/crm/webhook.py": "how old a signature may be",
    "mebae/examining.py": "`mebae doctor` compares the machine's clock with others",
    "mebae/handover_sender.py": "for tests only: the worker gives it Temporal's time",
    "mebae/http/crm.py": "when another system said it, and how old a signature may be",
    "mebae/http/forms.py": "when a form was received",
    "mebae/http/handover.py": "when sales answered",
    "mebae/http/intake.py": "when an event was received",
    "mebae/http/lead_pages.py": "when a lead said what it wants",
    "mebae/http/tracking.py": "when a link was followed",
    "mebae/mail/pace.py": "for commands only: the worker gives it Temporal's time",
    "mebae/mail/wiring.py": "when a report came back",
    "mebae/programs/demo.py": "the demo makes its own world",
    "mebae/programs/house.py": "the name of a new key",
    "mebae/programs/quarantine.py": "when a person let an event in",
    "mebae/right_time.py": "whether the machine's clock was set or slept: then Temporal is asked for the time again",
    "mebae/sender.py": "for commands only: the worker gives it Temporal's time",
    "mebae/telling.py": "for tests only: the worker gives it Temporal's time",
    "mebae/wiring.py": "the time of commands: when a person did something, never when a mail is due",
}
"""The files that ask the machine's clock, and what for. No activity and no workflow is among them: whether a mail is due is
decided by Temporal's time, which reaches them as an argument or as their attempt's start. What else runs in the worker gets
Temporal's time from `mebae/right_time.py`."""


def test_only_these_ask_the_machines_clock() -> None:
    """A new place stands here with its reason, or takes its time from its caller."""
    asks = re.compile(r"datetime\.(now|utcnow|today)\(|\btime\.time\(|date\.today\(")
    found = {
        str(path.relative_to(ROOT))
        for folder in ("mebae", "activities", "workflows")
        for path in (ROOT / folder).rglob("*.py")
        if asks.search(path.read_text())
    }
    assert found == set(ASKS)


@pytest.fixture(params=[-OFF, OFF], ids=["3 days slow", "3 days fast"])
def wrong(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> timedelta:
    """The machine's clock is off, wherever an activity might read it. (The campaign R10 has a whole process of that kind.)"""

    class Machine(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return SERVER + request.param

    for module in (calling, broadcasts, sweeps):
        monkeypatch.setattr(module, "datetime", Machine, raising=False)
    return request.param  # type: ignore[no-any-return]


def at_the_server() -> ActivityEnvironment:
    env = ActivityEnvironment()
    env.info = replace(env.info, started_time=SERVER)
    return env


@pytest.mark.parametrize("clock", [None, WorldClock(origin=SERVER - timedelta(hours=1), speed=24.0)], ids=["real", "fast"])
async def test_an_activity_takes_temporals_time(wrong: timedelta, clock: WorldClock | None) -> None:
    async def ask() -> tuple[datetime, datetime]:
        return world_now(StepInput(entry=1, step="hello", clock=clock)), steady_now(clock)()

    there = (clock or WorldClock()).world(SERVER)
    argument, going = await at_the_server().run(ask)
    assert argument == there
    assert there <= going <= there + timedelta(minutes=30)


async def test_sweep_of_a_worker_with_a_wrong_clock_goes_by_temporals_time(sqlite_database: Database, wrong: timedelta) -> None:
    """Who is called dormant three days early gets a mail three days early."""
    seen: list[datetime] = []

    def look(session: Session, now: datetime, most: int) -> int:
        seen.append(now)
        return 0

    activities = SweepActivities(sqlite_database, {"look": Job("look", "", Every(OFF), repeated(look, "seen"))})
    await at_the_server().run(activities.run_job, SweepInput(job="look"))
    assert seen
    assert all(abs(now - SERVER) < timedelta(minutes=1) for now in seen), "by the machine's it would be days off"
