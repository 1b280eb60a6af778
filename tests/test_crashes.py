"""`kill -9`: of the worker in the middle of its journeys, and of Temporal while they sleep. Nothing is lost, nothing comes twice."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from aiosmtpd.smtp import SMTP, Envelope
from aiosmtpd.smtp import Session as SmtpSession
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from mebae.authoring import Scenario, days, end, send, wait
from mebae.settings import Settings
from mebae.store.database import Database
from tests.dev_server import dev_server
from tests.house import LAWFUL, LAYOUT, MAIL, House, Relay, house

ROOT = Path(__file__).resolve().parents[1]
MANY = 50

SCENARIO = """
from mebae.authoring import *

scenario = Scenario(
    "welcome",
    enters_on=downloaded("whitepaper-*"),
    steps=[send("thanks"), wait(hours(6)), send("again"), end("welcomed")],
)
"""
SPEED = 7200.0
"""Two hours in a second: the wait takes three."""


class Slow(Relay):
    """Takes its time between the final dot and its answer, so that a kill meets mails whose fate nobody knows."""

    async def handle_DATA(self, server: SMTP, session: SmtpSession, envelope: Envelope) -> str:
        answer = await super().handle_DATA(server, session, envelope)
        await asyncio.sleep(0.05)
        return answer


class WorkerProcess:
    """`python worker.py`, which comes and goes."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._ready, self._log = folder / "ready", folder / "worker.log"
        keep = {name: value for name, value in os.environ.items() if not name.startswith(("MEBAE_", "TEMPORAL_"))}
        self._environment = {**keep, **environment}
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._ready.unlink(missing_ok=True)
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "worker.py", "--ready-file", str(self._ready),
                cwd=ROOT, env=self._environment, stdout=log, stderr=log,
            )  # fmt: skip
        async with asyncio.timeout(60):
            while not self._ready.exists():
                assert self._process.returncode is None, self._log.read_text()
                await asyncio.sleep(0.05)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def kill(self) -> None:
        """`kill -9`."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


def scenarios(folder: Path) -> Path:
    """A scenarios folder with the one scenario and its mails."""
    home = folder / "scenarios"
    for path, text in {
        "welcome/scenario.py": SCENARIO,
        "welcome/thanks.md": MAIL.format(name="thanks"),
        "welcome/again.md": MAIL.format(name="again"),
        "layouts/default.html": LAYOUT,
    }.items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(text)
    return home


@pytest.mark.parametrize(
    ("policy", "after"),
    [
        ("hold", 20),  # among the first mails
        pytest.param("hold", 70, marks=pytest.mark.slow),  # among the second ones
        pytest.param("retry", 20, marks=pytest.mark.slow),
        pytest.param("retry", 70, marks=pytest.mark.slow),
    ],
)
async def test_a_worker_killed_in_the_middle_of_fifty_journeys_finishes_them_when_it_comes_back(
    sqlite_url: str, tmp_path: Path, policy: str, after: int
) -> None:
    relay = Slow()
    smtp = await relay.start()
    database = Database(sqlite_url)
    async with dev_server(tmp_path) as server:
        settings = {
            "DATABASE_URL": sqlite_url,
            "TEMPORAL_ADDRESS": server.address,
            "MEBAE_STATE": str(tmp_path / "state"),
            "MEBAE_SCENARIOS": str(scenarios(tmp_path)),
            "MEBAE_SMTP_PORT": str(smtp),
            "MEBAE_UNKNOWN_MAIL": policy,
            "MEBAE_CLOCK_ORIGIN": datetime.now(UTC).isoformat(),
            "MEBAE_CLOCK_SPEED": str(SPEED),
            **{f"MEBAE_{name.upper()}": value for name, value in LAWFUL.items()},
        }
        worker = WorkerProcess(tmp_path, settings)
        clock = {"clock_origin": settings["MEBAE_CLOCK_ORIGIN"], "clock_speed": SPEED}
        mebae = House(database, cast(Client, None), relay, Settings.model_validate(clock))
        try:
            await worker.start()
            for n in range(MANY):
                lead = await mebae.lead(f"lead-{n}@aoba.example")
                await mebae.event(lead, "Content Downloaded", content="whitepaper-1")
            async with asyncio.timeout(60):
                while len(relay.mails) < after:
                    await asyncio.sleep(0.005)
            await worker.kill()
            died_at = len(relay.mails)
            assert died_at < 2 * MANY, "it died too late to prove anything"
            await worker.start()
            rows = await mebae.ended(seconds=60)
        finally:
            await worker.kill()
            await relay.stop()
    deliveries = await mebae.deliveries()
    database.close()

    assert [row.outcome for row in rows] == ["welcomed"] * MANY
    assert Counter(row.step for row in deliveries) == {"thanks": MANY, "again": MANY}
    emails = {row.entry: f"lead-{row.lead_id - 1}@aoba.example" for row in rows}
    arrived = Counter(str(mail["Message-ID"]) for mail in relay.mails)
    recipients = {str(mail["Message-ID"]): str(mail["To"]) for mail in relay.mails}
    assert len({(mail["Message-ID"], mail["To"]) for mail in relay.mails}) == len(arrived), (
        "one mail went to two people"
    )
    for row in deliveries:
        assert row.status in ("sent", "unknown"), (row.entry, row.step, row.status, row.reason, row.raw)
        if row.status == "sent":
            assert row.message_id in arrived, "confirmed, and never arrived"
        if row.message_id in arrived:
            assert emails[row.entry] in recipients[row.message_id]
        # Twice only with `retry`, and only where the first attempt died with the mail's fate unknown.
        most = 1 if policy == "hold" or row.attempt == 1 else 2
        assert arrived.get(row.message_id, 0) <= most, (row.entry, row.step)
    unknown = [row for row in deliveries if row.status == "unknown"]
    twice = [message_id for message_id, times in arrived.items() if times > 1]
    # No more than were under way at once, their answers still to be written; the relay was slow enough for some.
    assert len(unknown) <= 4 * Settings().smtp_connections
    assert len(twice) <= 4 * Settings().smtp_connections
    if policy == "retry":
        assert unknown == []
    assert len(set(arrived) | {row.message_id for row in unknown}) == 2 * MANY


async def test_fifty_sleeping_journeys_wake_up_after_temporal_was_killed(
    sqlite_database: Database, tmp_path: Path
) -> None:
    sleepers = Scenario("sleepers", steps=[send("thanks"), wait(days(20)), send("again"), end("woken")])
    async with dev_server(tmp_path) as server:
        env = WorkflowEnvironment.from_client(await server.connect())
        async with house(sqlite_database, env=env, speed=86_400.0) as mebae:
            graph = await mebae.publish(sleepers)
            for n in range(MANY):
                await mebae.start(graph, await mebae.lead(f"lead-{n}@aoba.example"))
            async with asyncio.timeout(60):
                while len(mebae.relay.mails) < MANY:
                    await asyncio.sleep(0.05)
            await mebae.resting_at("thanks/wait")
            assert len(mebae.relay.mails) == MANY
            await server.kill()
            await asyncio.sleep(1)
            await server.start()
            rows = await mebae.ended(seconds=60)
            assert [row.outcome for row in rows] == ["woken"] * MANY
            arrived = Counter(str(mail["Message-ID"]) for mail in mebae.relay.mails)
            assert sorted(arrived.values()) == [1] * (2 * MANY)
            assert {str(row.status) for row in await mebae.deliveries()} == {"sent"}
            late = [(row.ended_at or mebae.now()) - (row.started_at or mebae.now()) for row in rows]
            assert min(late).days >= 20
