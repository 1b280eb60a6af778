"""R1 in journeys: `kill -9` of the worker at random moments while many journeys send."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import cast

from sqlmodel import Session, col, func, select
from temporalio.client import Client

from mebae.settings import Settings
from mebae.store.database import Database
from mebae.store.tables import Delivery, JourneyRow
from tests.dev_server import dev_server
from tests.faults.broadcasts import BAR
from tests.faults.campaign import Finding, Home, Tick, chance, load_now, opened, silent
from tests.faults.killing import Killing, Slow
from tests.house import LAWFUL, House, Relay
from tests.test_crashes import WorkerProcess, scenarios


def settings_for(at: Home, smtp: int, temporal: str, policy: str, speed: float) -> dict[str, str]:
    return {
        "DATABASE_URL": at.url,
        "TEMPORAL_ADDRESS": temporal,
        "MEBAE_STATE": str(at.folder / "state"),
        "MEBAE_SCENARIOS": str(scenarios(at.folder)),
        "MEBAE_SMTP_PORT": str(smtp),
        "MEBAE_UNKNOWN_MAIL": policy,
        "MEBAE_CLOCK_ORIGIN": datetime.now(UTC).isoformat(),
        "MEBAE_CLOCK_SPEED": str(speed),
        **{f"MEBAE_{name.upper()}": value for name, value in LAWFUL.items()},
    }


def house_for(database: Database, relay: Relay, settings: dict[str, str], speed: float) -> House:
    clock = {"clock_origin": settings["MEBAE_CLOCK_ORIGIN"], "clock_speed": speed}
    return House(database, cast(Client, None), relay, Settings.model_validate(clock))


async def journeys_killed(
    at: Home, *, leads: int, kills: int, policy: str, delay: float = 0.02, tick: Tick = silent
) -> Finding:
    """Journeys of two mails each, with six hours between them, and a worker that is killed and comes back.

    They do not begin all at once but some before each kill, so that there is always one that goes on while others wait until
    Temporal knows that their worker is dead.
    """
    dice, relay, speed = chance(f"journeys {policy} {at.kind}"), Slow(delay), 7200.0
    smtp = await relay.start()
    with opened(at.url) as database:
        async with dev_server(at.folder) as server:
            settings = settings_for(at, smtp, server.address, policy, speed)
            worker, mebae = WorkerProcess(at.folder, settings), house_for(database, relay, settings, speed)

            async def begin(kill: int) -> int:
                after = leads * (kill + 1) // kills
                for n in range(leads * kill // kills, after):
                    lead = await mebae.lead(f"lead-{n}@aoba.example")
                    await mebae.event(lead, "Content Downloaded", content="whitepaper-1")
                return 2 * after

            try:
                await worker.start()
                killing = Killing(worker, relay, over=lambda: _ended(database) == leads, mails=2 * leads, dice=dice)
                await killing.run(kills, tick, begin)
            finally:
                await worker.kill()
                await relay.stop()
        rows = database.read_now(lambda session: list(session.exec(select(Delivery))))
    lost, twice, again = reckon(rows, relay.taken, policy)
    unknown = sum(row.status == "unknown" for row in rows)
    good = not lost and not twice and len(rows) == 2 * leads and not killing.gave_up
    done = f"{killing.killed} × `kill -9` of the worker while {leads} journeys send two mails each, {policy}, {at.kind}"
    said = f"{2 * leads - len(rows) + len(lost)} lost, {len(twice)} twice, {again} once more, {unknown} unknown and listed"
    said += f": {(lost + twice)[:5]}" if lost or twice else ""
    said += f"; {killing.gave_up}" if killing.gave_up else ""
    return Finding("R1", done, BAR, f"{said} ({load_now()})", good)


def reckon(rows: list[Delivery], taken: Counter[str], policy: str) -> tuple[list[str], list[str], int]:
    """What is lost, what came too often, and how many came once more as the policy lets them."""
    lost, twice, again = [], [], 0
    for row in rows:
        times = taken.get(row.message_id, 0)
        if row.status not in ("sent", "unknown") or (row.status == "sent" and not times):
            lost.append(f"{row.id} {row.status} {row.reason}")
        if times > (1 if policy == "hold" or row.attempt == 1 else 2):
            twice.append(f"{row.id} came {times} times, attempt {row.attempt}")
        again += times == 2
    return lost, twice, again


def _ended(database: Database) -> int:
    def read(session: Session) -> int:
        return session.exec(select(func.count()).select_from(JourneyRow).where(col(JourneyRow.status) == "ended")).one()

    return database.read_now(read)
