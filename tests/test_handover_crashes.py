"""`kill -9` around a hand-over: of the worker and of Temporal, at every step of it. It is opened once, decided once and told once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import cast

from sqlmodel import Session, col, select
from temporalio.client import Client

from mebae import handing
from mebae.handing import Decision
from mebae.handover import Move
from mebae.settings import Settings
from mebae.store.database import Database
from mebae.store.tables import Event, Handover, HandoverEvent, Telling
from tests.dev_server import dev_server
from tests.house import LAWFUL, MAIL, House, Relay
from tests.test_crashes import WorkerProcess

SCENARIO = """
from mebae.authoring import *

scenario = Scenario(
    "gives",
    enters_on=downloaded("whitepaper-*"),
    exits_when=lead.qualification == "sql",
    steps=[hand_to_sales("資料", id="sales", sql=[send("thanks"), end("sql")]), end("back")],
)
"""
LAYOUT = "<html><body>{{ body }}{{ footer }}</body></html>"


def scenarios(folder: Path) -> Path:
    home = folder / "scenarios"
    files = {"gives/scenario.py": SCENARIO, "gives/thanks.md": MAIL.format(name="thanks"), "layouts/default.html": LAYOUT}
    for path, text in files.items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(text)
    return home


async def until(database: Database, what: Callable[[Session], object], seconds: float = 40) -> None:
    async with asyncio.timeout(seconds):
        while not database.read_now(what):
            await asyncio.sleep(0.05)


def lease_is_over(session: Session) -> None:
    """What a dead teller had in its hands is another one's after a minute and a half; nobody wants to wait for it here."""
    for one in session.exec(select(Telling)):
        one.next_at = None


async def test_a_hand_over_survives_kills_of_worker_and_temporal_at_every_step(sqlite_url: str, tmp_path: Path) -> None:
    relay = Relay()
    smtp = await relay.start()
    database = Database(sqlite_url)
    async with dev_server(tmp_path) as server:
        environment = {
            "DATABASE_URL": sqlite_url, "TEMPORAL_ADDRESS": server.address, "MEBAE_STATE": str(tmp_path / "state"),
            "MEBAE_SCENARIOS": str(scenarios(tmp_path)), "MEBAE_SMTP_PORT": str(smtp),
            **{f"MEBAE_{name.upper()}": value for name, value in LAWFUL.items()},
        }  # fmt: skip
        worker = WorkerProcess(tmp_path, environment)
        mebae = House(database, cast(Client, None), relay, Settings())

        def decide(move: Move) -> None:
            said = Decision(move, "sales", "button")
            database.write_now(handing.decide, 1, said, mebae.now(), "Asia/Tokyo", mebae.settings.calendar())

        try:
            # Given a lead that comes to its hand-over; the worker dies as soon as that is written, whatever else it had to do.
            await worker.start()
            one = await mebae.lead("sato@aoba.example")
            await mebae.event(one, "Content Downloaded", content="whitepaper-1")
            await until(database, lambda session: session.exec(select(Handover.id)).first())
            await worker.kill()
            # When sales accepts while neither worker nor Temporal is there,
            await server.kill()
            decide(Move.ACCEPT)
            await server.start()
            await worker.start()
            # the clocks learn of it; killed once more, sales judges, and it goes on where it was.
            await until(database, lambda session: session.exec(select(Handover.id).where(Handover.told == Handover.version)).first())
            await worker.kill()
            decide(Move.SQL)
            database.write_now(lease_is_over)
            await worker.start()
            [row] = await mebae.ended(one, seconds=60)
            await until(database, lambda session: session.exec(select(Handover.id).where(Handover.told == Handover.version)).first())
            await until(database, lambda session: session.exec(select(Telling.id).where(Telling.status == "told")).first())
        finally:
            await worker.kill()
            await relay.stop()
    # Then the path of SQL was taken, everything happened once, and the owner was told at most once.
    assert row.outcome == "sql"
    names = Counter(database.read_now(lambda session: session.exec(select(Event.name).where(Event.lead_id == one)).all()))
    assert (names["Handover Opened"], names["Handover Accepted"], names["Sales Qualified"]) == (1, 1, 1)
    moves = database.read_now(lambda session: session.exec(select(HandoverEvent.move).order_by(col(HandoverEvent.id))).all())
    assert moves == ["open", "accept", "sql"]
    subjects = Counter(relay.subjects())
    assert subjects["thanks"] == 1
    told = database.read_now(lambda session: session.exec(select(Telling.status)).all())
    assert told == ["told"]
    assert len({str(mail["Message-ID"]) for mail in relay.mails}) == 2
    database.close()
