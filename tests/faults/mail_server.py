"""R7: mail servers that turn mail away, say nothing, drop the line; and one that hangs while others work."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import timedelta

from mebae.mail.transport import SmtpTransport
from mebae.store.tables import Delivery
from tests.faults.campaign import Finding, Home, Tick, chance, load_now, opened, silent
from tests.mail.relays import DROP, HANG
from tests.mail.test_bulk import NOON, Post, post

FAULTS: dict[str, list[str]] = {
    "MAIL": ["421 4.3.2 going down", "450 4.7.0 slow down", DROP],
    "RCPT": ["451 4.7.1 greylisted", "421 4.7.0 too many", "550 5.1.1 no such user", "552 5.2.2 full", "452 4.5.3 later", DROP],
    "DATA": ["451 4.3.0 not now", "421 4.3.2 going down", "554 5.5.1 no", DROP],
    "BODY": ["451 4.3.0 later", "421 4.3.2 going down", "550 5.7.1 spam", DROP],
}
"""What goes wrong, by the moment; silence is dearer and comes less often."""
SHARE = 0.15
SILENCES = 6
DELAY = 0.02
"""Seconds that the server of the hanging relay takes for each answer to a message: then its connections, not our processor,
are what limits the rate."""


async def mail_server_faults(at: Home, *, leads: int, tick: Tick = silent) -> Finding:
    """One command in seven goes wrong, until the last mail is settled."""
    dice = chance("R7")
    with opened(at.url) as database:
        async with post(database, connections=8) as it:
            ids = it.leads(leads)
            for moment, faults in FAULTS.items():
                it.relay.script[moment] = [dice.choice(faults) if dice.random() < SHARE else None for _ in range(leads)]
            for moment in ("RCPT", "BODY"):
                for _ in range(SILENCES // 2):
                    it.relay.script[moment][dice.randrange(leads // 2)] = HANG
            waiting, rounds, early = ids, 0, 0
            while waiting:
                outcome = await it.send(waiting)
                waiting = [lead for lead, _ in outcome.later]
                early += sum(until - it.now < timedelta(minutes=1) for _, until in outcome.later)
                it.now = max((until for _, until in outcome.later), default=it.now)
                rounds += 1
                tick(min(0.99, 1 - len(waiting) / leads))
            rows = it.rows()
            return _judged(it, rows, rounds, early, leads, at.kind)


def _judged(it: Post, rows: dict[int, Delivery], rounds: int, early: int, leads: int, kind: str) -> Finding:
    times = it.times
    twice = [to for to, count in times.items() if count > 1]
    statuses = Counter(row.status for row in rows.values())
    lost = [
        row.lead_id for row in rows.values() if row.status == "sent" and times[f"lead{row.lead_id}@aoba.example"] != 1
    ]
    again = [row.lead_id for row in rows.values() if row.status == "refused" and row.failures != row.attempt - 1]
    silent_no = [row.lead_id for row in rows.values() if row.status == "refused" and not (row.raw or "").startswith("5")]
    took = it.now - NOON
    good = (
        not (twice or lost or again or silent_no or early)
        and set(statuses) <= {"sent", "refused", "unknown"}
        and len(rows) == leads
    )
    measured = (
        f"{statuses['sent']} sent once, {statuses['refused']} refused by 5xx and never tried again, {statuses['unknown']} unknown and "
        f"listed, 0 lost, {len(twice)} twice; {rounds} rounds over {took.total_seconds() / 3600:.1f} hours of the world"
    )
    return Finding(
        "R7", f"421, 450, 451, 452, 5xx, drops and silence at MAIL, RCPT, DATA and after the message, {leads} mails, {kind}",
        "4xx tried again with back-off, 5xx never; 0 lost, 0 twice", measured, good,
    )  # fmt: skip


async def hung_relay(at: Home, *, mails: int, tick: Tick = silent) -> Finding:
    """One connection hangs in the middle of a delivery; the three others, beside three that have no such neighbour."""
    rates: dict[int, list[float]] = {3: [], 4: []}
    with opened(at.url) as database:
        for turn in range(6):
            hangs = turn % 2 == 1
            connections = 4 if hangs else 3
            async with post(database, connections=connections) as it:
                it.relay.delay = DELAY
                it.transport = SmtpTransport("127.0.0.1", it.relay.port, connections=connections, timeout=60.0)
                it.mailer = it.made(it.transport, at_once=connections)
                stuck = asyncio.create_task(it.send(it.leads(1))) if hangs else None
                if hangs:
                    it.relay.script["RCPT"] = [HANG]
                    while "RCPT" not in it.relay.log:
                        await asyncio.sleep(0.01)
                others = it.leads(mails)
                began = time.perf_counter()
                outcome = await it.send(others)
                rates[connections].append(mails / (time.perf_counter() - began))
                assert outcome.counts == {"sent": mails}
                if stuck is not None:
                    assert not stuck.done(), "it was not the only one that hung"
                    it.relay.drop_all()
                    await stuck
            tick((turn + 1) / 6)
    ratio = max(rates[4]) / max(rates[3])
    return Finding(
        "R7", f"1 of 4 connections hangs, {mails} mails over the others, {at.kind}", "it holds 1 slot, the others keep 90 % of their rate",
        f"{max(rates[4]):.0f} mails/s beside it, {max(rates[3]):.0f}/s without: {ratio:.2f}; {load_now()}", ratio >= 0.9,
    )  # fmt: skip
