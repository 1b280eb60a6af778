"""Mails a second: gate, ledger, rendering and SMTP together, beside prebuilt bytes: `python -m bench.mail [COUNT]`.

All sides hand the same mails to the same local sink over the same number of kept connections, in turns. The baselines have
their bytes ready and ask nobody: `aiosmtplib` is the library by itself, `transport` is our transport, which says sender and
recipient in one go. Ours claims, asks the gate, renders, builds, asks again, enters `data` and writes what came of it, each
mail for a lead of its own with its own links and tokens.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import uvloop
from aiosmtplib import SMTP
from sqlalchemy import insert
from sqlmodel import Session, col, func, select

from mebae.authoring import days
from mebae.clock import WorldClock
from mebae.gate import Gate
from mebae.mail.bulk import BulkContent, BulkMailer
from mebae.mail.bulk_ledger import BulkLedger
from mebae.mail.composing import Composed, compose
from mebae.mail.composing_beside import Beside
from mebae.mail.legal import lacking
from mebae.mail.outgoing import MailSettings
from mebae.mail.publishing import publish_layouts, publish_mails
from mebae.mail.rendering import Sender
from mebae.mail.transport import SmtpTransport
from mebae.mailing import Cap, MailRules, SendingHours, Topic
from mebae.store.consents import Given, record_all
from mebae.store.database import Database
from mebae.store.migrate import migrate
from mebae.store.tables import Broadcast, Delivery, Lead
from mebae.timing import Calendar
from mebae.tokens import Tokens
from tests.postgres import running_postgres

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 5
CONTENT = BulkContent("bench", "thanks")
RULES = MailRules(topics=(Topic("product"),), caps=(Cap(100_000, days(7)),), hours=SendingHours("00:00", "24:00"))
"""All rules are asked; none says no."""
SETTINGS = MailSettings(
    Sender("点検ノート編集部", "news@mebae.example", postal="〒100-0001 東京都千代田区千代田1-1", contact="desk@mebae.example"),
    "sales@mebae.example", rules=RULES, tokens=Tokens.read_keys(["20260101:a-secret-of-the-benchmark"]),
    public_url="https://mail.mebae.example", bounce_domain="return.mebae.example",
)  # fmt: skip


def now() -> datetime:
    return datetime.now(UTC)


def prepare(session: Session, count: int) -> list[int]:
    """Leads that agreed, and the sample scenario's mail and layout."""
    files = {("thanks", "ja"): (ROOT / "scenarios/whitepaper_followup/thanks.ja.md").read_text()}
    publish_mails(session, CONTENT.scope, files, now())
    publish_layouts(session, {"default": (ROOT / "scenarios/layouts/default.html").read_text()}, now())
    made = Lead(created_at=now(), updated_at=now()).model_dump(exclude={"id"})
    session.execute(
        insert(Lead),
        [
            made | {
                "email": f"lead{n}@domain{n % 97}.example", "name": "佐藤 健二", "company": "青葉精機", "title": "部長",
                "attributes": {"entry": "whitepaper"}, "tags": ["expo"],
            }
            for n in range(count)
        ],
    )  # fmt: skip
    ids = list(session.exec(select(Lead.id).order_by(col(Lead.id))))
    record_all(session, [Given(id or 0, now(), "form", "bench", "はい", f"bench:{id}") for id in ids])
    return [id or 0 for id in ids]


def begun(session: Session, name: str) -> int:
    row = Broadcast(cause=f"command:{name}", broadcast="bench", plan="{}", status="running", due_at=now())
    session.add(row)
    session.flush()
    assert row.id is not None
    return row.id


async def prebuilt(database: Database, leads: list[int]) -> list[Composed]:
    """The same mails, ready: rendered for a broadcast that sends none of them."""
    broadcast = await database.write(begun, "prebuilt")
    ledger = BulkLedger(gate(), SETTINGS, WorldClock())
    found = await database.write(ledger.claim, broadcast, leads, CONTENT, now())
    return [compose(taken.letter(SETTINGS), SETTINGS) for taken in found.taken]


def gate() -> Gate:
    return Gate(RULES, "Asia/Tokyo", Calendar(), lacking(SETTINGS))


async def bytes_round(transport: SmtpTransport, mails: list[Composed], connections: int) -> float:
    waiting = iter(mails)

    async def nobody() -> None:
        pass

    async def carry() -> None:
        for mail in waiting:
            await transport.deliver(mail.envelope_from, mail.to, mail.message, before_data=nobody)

    began = time.perf_counter()
    await asyncio.gather(*(carry() for _ in range(connections)))
    return time.perf_counter() - began


async def library_round(port: int, mails: list[Composed], connections: int) -> float:
    """What somebody would write who has nothing but the library."""
    clients = [SMTP(hostname="127.0.0.1", port=port, start_tls=False) for _ in range(connections)]
    for client in clients:
        await client.connect()
    waiting = iter(mails)

    async def carry(client: SMTP) -> None:
        for mail in waiting:
            await client.sendmail(mail.envelope_from, [mail.to], mail.message)

    began = time.perf_counter()
    await asyncio.gather(*map(carry, clients))
    took = time.perf_counter() - began
    for client in clients:
        await client.quit()
    return took


async def ours_round(mailer: BulkMailer, broadcast: int, leads: list[int]) -> float:
    began = time.perf_counter()
    outcome = await mailer.send(broadcast, leads, CONTENT, now)
    took = time.perf_counter() - began
    assert outcome.counts == {"sent": len(leads)}, outcome.counts
    return took


def _knows_its_tables(session: Session) -> None:
    """As a database does that has been in use for a minute: by itself PostgreSQL counts its rows once a minute."""
    session.connection().exec_driver_sql("ANALYZE")


async def measure(kind: str, url: str, count: int, connections: int, port: int) -> None:
    migrate(url)
    database = Database(url)
    transport = SmtpTransport("127.0.0.1", port, connections=connections)
    beside = Beside(SETTINGS)
    try:
        all_leads = await database.write(prepare, count * (ROUNDS + 2))
        mails = await prebuilt(database, all_leads[-count:])
        mailer = BulkMailer(database, transport, gate(), SETTINGS, at_once=connections, beside=beside)
        rates: dict[str, list[float]] = {"ours": [], "aiosmtplib": [], "transport": []}
        for round in range(ROUNDS + 1):
            leads = all_leads[round * count : (round + 1) * count]  # nobody has had a mail that counts in a cap
            broadcast = await database.write(begun, f"round {round}")
            took = {
                "aiosmtplib": await library_round(port, mails, connections),
                "transport": await bytes_round(transport, mails, connections),
                "ours": await ours_round(mailer, broadcast, leads),
            }
            if not round:  # the first warms up
                await database.write(_knows_its_tables)
            else:
                for side, seconds in took.items():
                    rates[side].append(count / seconds)
                print(f"round {round}: " + "   ".join(f"{side} {its[-1]:5.0f}/s" for side, its in rates.items()), flush=True)
        sent = await database.read(lambda s: s.exec(select(func.count()).where(Delivery.status == "sent")).one())
        assert sent == count * (ROUNDS + 1), f"{sent} mails were sent"
    finally:
        await beside.close()
        await transport.aclose()
        database.close()
    medians = {side: statistics.median(its) for side, its in rates.items()}
    ratios = {
        side: statistics.median(mine / his for mine, his in zip(rates["ours"], rates[side], strict=True))
        for side in ("aiosmtplib", "transport")
    }
    print(
        f"{kind}: {medians['ours']:.0f} mails/s (reach: 500). Prebuilt bytes by aiosmtplib {medians['aiosmtplib']:.0f}/s: ratio "
        f"{ratios['aiosmtplib']:.2f} (reach: 0.50); by our transport {medians['transport']:.0f}/s: {ratios['transport']:.2f}. Median of "
        f"{ROUNDS} rounds of {count}, {connections} connections, {len(mails[0].message)} bytes each, load {os.getloadavg()[0]:.1f}\n"
    )


@contextmanager
def sink() -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    process = subprocess.Popen([sys.executable, "-m", "bench.sink", str(port)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield port
    finally:
        process.terminate()
        process.wait(10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=2000)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--only", choices=["sqlite", "postgres"])
    options = parser.parse_args()
    with sink() as port:
        if options.only != "postgres":
            with tempfile.TemporaryDirectory() as folder:
                url = f"sqlite:///{folder}/mebae.db"
                uvloop.run(measure("SQLite", url, options.count, options.connections, port))
        if options.only != "sqlite":
            with running_postgres() as server:
                url = server.url(server.create())
                uvloop.run(measure("PostgreSQL", url, options.count, options.connections, port))


if __name__ == "__main__":
    main()
