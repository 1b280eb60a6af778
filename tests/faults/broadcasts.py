"""R1 for broadcasts: `kill -9` of the worker at random moments while one goes out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import insert
from sqlmodel import Session, col, select
from temporalio.client import Client

from mebae.broadcast_opening import request_run
from mebae.broadcast_sender import start_run
from mebae.clock import WorldClock
from mebae.store.broadcasts import plan_to_send
from mebae.store.consents import Given, record_all
from mebae.store.database import Database
from mebae.store.tables import Broadcast, Delivery, Lead
from tests.dev_server import dev_server
from tests.faults.campaign import Finding, Home, Tick, chance, load_now, opened, silent
from tests.faults.killing import Killing, Slow
from tests.house import LAWFUL, LAYOUT
from tests.test_crashes import WorkerProcess

BROADCAST = """
from mebae.broadcasts_language import *

broadcast = Broadcast("news", to=lead.score >= 50, mail="news", ab=ab_test(subject("other"), share=30, after=minutes(1)), holdout=5)
"""
HOLDOUT = 0.05
MAIL = "---\nsubject: first\n---\nHello {{ lead.name }}, read [this](https://example.com/paper).\n"
SPEED = 60.0
"""A minute in a second: the test takes one."""
CLOCK = WorldClock(origin=datetime(2026, 1, 1, tzinfo=UTC), speed=SPEED)
BAR = "0 lost; `hold`: 0 twice, all in flight listed; `retry`: at most one more per mail in flight, same Message-ID"


@dataclass
class Reckoned:
    """What became of a broadcast's mails."""

    lost: list[str] = field(default_factory=list)
    """Said to be sent, and never came; or nothing is said of it."""
    twice: list[str] = field(default_factory=list)
    """Came twice where the policy says once, or more than twice."""
    again: int = 0
    """Came a second time, as `retry` may."""
    unlisted: list[str] = field(default_factory=list)
    """Came, and is neither sent nor unknown."""
    unknown: int = 0
    sent: int = 0

    @property
    def good(self) -> bool:
        return not (self.lost or self.twice or self.unlisted)


def reckon(session: Session, run: int, leads: int, taken: Counter[str], policy: str) -> Reckoned:
    found = Reckoned()
    rows = session.exec(select(Delivery).where(Delivery.broadcast_id == run)).all()
    found.lost += [f"no row: {leads - len(rows)}"] if len(rows) != leads else []
    for row in rows:
        times = taken.get(row.message_id, 0)
        found.sent += row.status == "sent"
        found.unknown += row.status == "unknown"
        if (row.status == "sent" and not times) or row.status in ("claimed", "data", "postponed"):
            found.lost.append(f"{row.id} {row.status} {row.reason}")
        if times and row.status not in ("sent", "unknown"):
            found.unlisted.append(f"{row.id} {row.status} {row.reason}")
        if times > (1 if policy == "hold" or row.attempt == 1 else 2):
            found.twice.append(f"{row.id} came {times} times, attempt {row.attempt}")
        found.again += times == 2
    return found


async def broadcast_killed(
    at: Home, *, leads: int, kills: int, policy: str, delay: float = 0.02, tick: Tick = silent
) -> Finding:
    """A broadcast with a test and a holdout, and a worker that is killed at random moments and comes back. `delay`: see `Slow`."""
    dice, relay = chance(f"broadcast {policy} {at.kind}"), Slow(delay)
    smtp = await relay.start()
    with opened(at.url) as database:
        database.write_now(_people, leads)
        async with dev_server(at.folder) as server:
            worker = WorkerProcess(at.folder, _settings(at, smtp, server.address, policy))
            try:
                await worker.start()
                run = await _begin(database, await server.connect())
                killing = Killing(worker, relay, over=lambda: _over(database, run), mails=round(leads * (1 - HOLDOUT)), dice=dice)
                await killing.run(kills, tick)
            finally:
                await worker.kill()
                await relay.stop()
        found = database.read_now(reckon, run, leads, relay.taken, policy)
    done = f"{killing.killed} × `kill -9` of the worker during a broadcast to {leads} leads, {policy}, {at.kind}"
    said = f"{len(found.lost)} lost, {len(found.twice)} twice, {found.again} once more"
    said += f", {found.unknown} unknown and listed, {found.sent} sent"
    if not found.good:
        said += f": {(found.lost + found.twice + found.unlisted)[:5]}"
    said += f"; {killing.gave_up}" if killing.gave_up else ""
    return Finding("R1", done, BAR, f"{said} ({load_now()})", found.good and not killing.gave_up)


def _people(session: Session, many: int) -> None:
    made = Lead(created_at=_now(), updated_at=_now(), score=60, name="佐藤 健二").model_dump(exclude={"id"})
    session.execute(insert(Lead), [made | {"email": f"lead{n}@aoba.example"} for n in range(many)])
    ids = session.exec(select(Lead.id).order_by(col(Lead.id))).all()
    record_all(session, [Given(id or 0, _now(), "form", "test", "はい", f"test:{id}") for id in ids])


async def _begin(database: Database, client: Client) -> int:
    def write(session: Session) -> Broadcast:
        return request_run(session, plan_to_send(session, "news"), "the-command", CLOCK.world(_now()))

    row = await database.write(write)
    await start_run(client, row, CLOCK)
    assert row.id is not None
    return row.id


def _over(database: Database, run: int) -> bool:
    return database.read_now(lambda session: session.get_one(Broadcast, run)).status == "done"


def _settings(at: Home, smtp: int, temporal: str, policy: str) -> dict[str, str]:
    return {
        "DATABASE_URL": at.url,
        "TEMPORAL_ADDRESS": temporal,
        "MEBAE_STATE": str(at.folder / "state"),
        "MEBAE_SCENARIOS": str(_scenarios(at.folder)),
        "MEBAE_SMTP_PORT": str(smtp),
        "MEBAE_UNKNOWN_MAIL": policy,
        "MEBAE_CLOCK_ORIGIN": CLOCK.origin.isoformat(),
        "MEBAE_CLOCK_SPEED": str(SPEED),
        **{f"MEBAE_{name.upper()}": value for name, value in LAWFUL.items()},
    }


def _scenarios(folder: Path) -> Path:
    home = folder / "scenarios"
    for path, text in {
        "broadcasts/news/broadcast.py": BROADCAST, "broadcasts/news/news.md": MAIL, "layouts/default.html": LAYOUT,
    }.items():  # fmt: skip
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(text)
    return home


def _now() -> datetime:
    return datetime.now(UTC)
