"""R10: a whole worker whose machine's clock is wrong, runs fast or jumps, beside a Temporal, a mail server and a judge that go right.

The clock is libfaketime's (`faketime`): of the world's time alone. What counts spans only (monotonic) goes on as it is, as on a
real machine whose date somebody sets.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from sqlmodel import Session, col, select

from mebae.clock import WorldClock
from mebae.store.database import Database
from mebae.store.tables import Delivery, JourneyRow, Lead, ScenarioVersion
from tests.dev_server import dev_server
from tests.faults.campaign import Finding, Home, Tick, load_now, opened, silent
from tests.faults.journeys import house_for
from tests.house import LAWFUL, LAYOUT, MAIL, Relay
from tests.test_crashes import WorkerProcess

SCENARIO = """
from mebae.authoring import *

scenario = Scenario(
    "welcome",
    enters_on=downloaded("whitepaper-*"),
    starts_at_most=per_day({places}),
    steps=[send("thanks"), wait(hours(30)), send("again"), end("welcomed")],
)
"""
MAILING = """
from mebae.mailing_language import *

mailing = Mailing(hours=between("09:00", "18:00"))
"""
OPENS, CLOSES = time(9), time(18)
WAIT = timedelta(hours=30)
ZONE = ZoneInfo("Asia/Tokyo")
SPEED = 7_200.0
"""A day in twelve seconds."""
PATIENCE = 60.0
"""Seconds in which no journey ends, after which it is reckoned up as it stands."""
SLACK = timedelta(seconds=20)
"""Machine time by which what Mebae writes down may differ from the right clock, as machines are slow at times. The wrong clock is
days off, and on this world's scale decades."""
RECENTLY = timedelta(hours=3)
"""Machine time: since a campaign began."""
DAY = 86_400.0
Course = Callable[[float], float]
"""By how many seconds a clock is off, so many seconds after the beginning."""


def off(days: float) -> Course:
    return lambda _: days * DAY


def fast(rate: float) -> Course:
    """Begins right."""
    return lambda since: since * (rate - 1)


def jumping(since: float) -> float:
    return (3, -3, 40, -400, 0.01, -0.01)[int(since / 2) % 6] * DAY


COURSES: Mapping[str, Course] = {
    "3 days fast": off(3), "3 days slow": off(-3), "running 2,000 times too fast": fast(2_000),
    "jumping by up to 400 days every 2 s": jumping,
}  # fmt: skip


def faketime() -> str | None:
    """What to preload; None where there is no faketime."""
    if shutil.which("faketime") is None:
        return None
    asked = ["faketime", "-m", "-f", "+0", "printenv", "LD_PRELOAD"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() or None


@asynccontextmanager
async def wrong_clock(folder: Path, course: Course) -> AsyncIterator[dict[str, str]]:
    """The environment of a process with such a clock."""
    library, file = faketime(), folder / "clock"
    assert library is not None
    began = asyncio.get_running_loop().time()

    def set_clock() -> None:
        beside = file.with_suffix(".new")
        beside.write_text(f"{course(asyncio.get_running_loop().time() - began):+.3f}")
        beside.replace(file)

    async def keep_setting() -> None:
        while True:
            set_clock()
            await asyncio.sleep(0.1)

    set_clock()
    task = asyncio.create_task(keep_setting())
    try:
        yield {
            "LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1",
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).with_name("unfaked")), *filter(None, [os.environ.get("PYTHONPATH")])]),
        }  # fmt: skip
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class Dated(Relay):
    """Notes when each mail came, by the right clock."""

    def __init__(self) -> None:
        super().__init__()
        self.came: dict[str, list[datetime]] = {}
        self.at_data = self._note

    def _note(self, mail: object) -> None:
        self.came.setdefault(str(mail["Message-ID"]), []).append(datetime.now(UTC))  # type: ignore[index]


async def worker_with_a_wrong_clock(at: Home, *, leads: int, places: int, clock: str, speed: float = SPEED, tick: Tick = silent) -> Finding:
    """Journeys that wait for their day, for sending hours and for thirty hours between two mails. `clock`: one of `COURSES`."""
    relay = Dated()
    smtp = await relay.start()
    with opened(at.url) as database:
        async with dev_server(at.folder) as server, wrong_clock(at.folder, COURSES[clock]) as faked:
            settings = {
                "DATABASE_URL": at.url,
                "TEMPORAL_ADDRESS": server.address,
                "MEBAE_STATE": str(at.folder / "state"),
                "MEBAE_SCENARIOS": str(_scenarios(at.folder, places)),
                "MEBAE_SMTP_PORT": str(smtp),
                "MEBAE_CLOCK_ORIGIN": datetime.now(UTC).isoformat(),
                "MEBAE_CLOCK_SPEED": str(speed),
                **{f"MEBAE_{name.upper()}": value for name, value in LAWFUL.items()},
            }
            worker, mebae = WorkerProcess(at.folder, settings | faked), house_for(database, relay, settings, speed)
            try:
                await worker.start()
                for n in range(leads):
                    lead = await mebae.lead(f"lead-{n}@aoba.example")
                    await mebae.event(lead, "Content Downloaded", content="whitepaper-1")
                stuck = await _ended(database, leads, PATIENCE + 2 * DAY * leads / places / speed, tick)
            finally:
                await worker.kill()
                await relay.stop()
        journeys, deliveries, emails, published = await database.read(_read)
    wrong = {
        "forgotten": leads - sum(row.outcome == "welcomed" for row in journeys) + (2 * leads - len(relay.came)),
        "twice": sum(len(times) > 1 for times in relay.came.values()),
        "outside of their hours": sum(not OPENS <= _local(row.data_at) < CLOSES for row in deliveries),
        "before their timer": _early(deliveries),
        "started before their day": sum(_starts_early(row, mebae.clock) for row in journeys),
        "on another day than one with a place": _overbooked(journeys, places),
        "noted at a wrong time": _wrongly_noted(deliveries, relay, mebae.clock),
        "published at a wrong time": sum(abs(mebae.clock.machine(one) - datetime.now(UTC)) > RECENTLY for one in published),
    }
    said = ", ".join(f"{many} {what}" for what, many in wrong.items())
    said += f"; {sum(len(times) for times in relay.came.values())} mails of {len(journeys)} journeys"
    said += f"; {stuck}" if stuck else ""
    assert len(emails) == leads
    return Finding(
        "R10", f"the worker's machine {clock}; {leads} journeys, {places} of them a day, wait for their day, for sending hours and "
        f"for 30 hours, {at.kind}; Temporal, the mail server and what judges them go right",
        "no early mail, none twice, nobody forgotten", f"{said} ({load_now()})", not any(wrong.values()) and not stuck,
    )  # fmt: skip


def _scenarios(folder: Path, places: int) -> Path:
    home = folder / "scenarios"
    for path, text in {
        "welcome/scenario.py": SCENARIO.format(places=places),
        "welcome/thanks.md": MAIL.format(name="thanks"),
        "welcome/again.md": MAIL.format(name="again"),
        "layouts/default.html": LAYOUT,
        "mailing.py": MAILING,
    }.items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(text)
    return home


async def _ended(database: Database, leads: int, seconds: float, tick: Tick) -> str:
    """Waits until all journeys have ended; what is left if they do not."""

    def read(session: Session) -> Counter[str]:
        return Counter(session.exec(select(JourneyRow.status)))

    loop = asyncio.get_running_loop()
    until, ended = loop.time() + seconds, 0
    while (found := await database.read(read))["ended"] < leads:
        if found["ended"] > ended:
            ended, until = found["ended"], loop.time() + seconds
        tick(ended / leads)
        if loop.time() > until:
            return f"no other ended in {seconds:.0f} s: {dict(found)}"
        await asyncio.sleep(0.2)
    return ""


def _read(session: Session) -> tuple[list[JourneyRow], list[Delivery], list[str | None], list[datetime]]:
    rows = list(session.exec(select(JourneyRow).order_by(col(JourneyRow.entry))))
    deliveries = list(session.exec(select(Delivery).where(col(Delivery.data_at).is_not(None)).order_by(col(Delivery.id))))
    return rows, deliveries, list(session.exec(select(Lead.email))), list(session.exec(select(ScenarioVersion.published_at)))


def _local(moment: datetime | None) -> time:
    assert moment is not None
    return moment.astimezone(ZONE).time()


def _early(deliveries: list[Delivery]) -> int:
    first = {row.entry: row.data_at for row in deliveries if row.step == "thanks"}
    return sum(row.step == "again" and row.data_at - first[row.entry] < WAIT for row in deliveries)  # type: ignore[operator]


def _starts_early(row: JourneyRow, clock: WorldClock) -> bool:
    if row.starts_at is None or row.started_at is None:
        return True
    return row.started_at < row.starts_at


def _overbooked(journeys: list[JourneyRow], places: int) -> int:
    """Starts beyond the places of a day; the days are those by which the entries came."""
    days = Counter(row.starts_at.astimezone(ZONE).date() for row in journeys if row.starts_at is not None)
    return sum(max(0, many - places) for many in days.values())


def _wrongly_noted(deliveries: list[Delivery], relay: Dated, clock: WorldClock) -> int:
    """Mails whose `data_at` is not what the right clock said when they came: without it the other counts would prove nothing."""
    wrong = 0
    for row in deliveries:
        for came in relay.came.get(row.message_id, []):
            assert row.data_at is not None
            wrong += abs(clock.machine(row.data_at) - came) > SLACK
    return wrong
