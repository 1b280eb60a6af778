"""R10 with whole processes: machines whose clocks are wrong or jump, beside a Temporal that goes right."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from sqlmodel import Session, col, select

from mebae.applier import Applier
from mebae.clock import WorldClock
from mebae.judging import Judge
from mebae.mail.tracking import MailLinks, links_of
from mebae.mail.wiring import mail_settings
from mebae.settings import Settings
from mebae.store.database import Database
from mebae.store.links import store_links
from mebae.store.tables import Delivery, Event, Lead, Suppression
from mebae.verdicts import Tuning
from tests.faults.campaign import Home
from tests.faults.wrong_clock import COURSES, faketime, worker_with_a_wrong_clock, wrong_clock
from tests.house import LAWFUL
from tests.http.mail_site import CHROME
from tests.server_process import KEY, ServerProcess

pytestmark = pytest.mark.skipif(faketime() is None, reason="needs faketime, for a process with a clock of its own (apt install faketime)")


async def test_a_worker_whose_clock_jumps_sends_at_the_right_times_and_forgets_nobody(sqlite_url: str, tmp_path: Path) -> None:
    finding = await worker_with_a_wrong_clock(
        Home(sqlite_url, tmp_path), leads=6, places=3, clock="jumping by up to 400 days every 2 s", speed=28_800.0
    )
    assert finding.good, str(finding)


PAPER = "https://example.com/paper"


def delivered(session: Session, email: str, now: datetime) -> MailLinks:
    """A mail that went out five minutes ago, and its links."""
    lead = Lead(email=email, created_at=now, updated_at=now)
    session.add(lead)
    session.flush()
    row = Delivery(
        lead_id=lead.id, kind="marketing", scope="trial", mail="thanks", topic="", message_id=f"<{email}>", status="sent",
        sent_at=now - timedelta(minutes=5), step="thanks",
    )  # fmt: skip
    session.add(row)
    session.flush()
    links = links_of(mail_settings(Settings(**LAWFUL)), row.id or 0, now)
    assert links is not None
    links.link(PAPER)
    store_links(session, links.links)
    return links


@pytest.mark.parametrize("clock", ["3 days fast", "3 days slow"])
async def test_what_a_server_with_a_wrong_clock_takes_in_counts_all_the_same(sqlite_url: str, tmp_path: Path, clock: str) -> None:
    """Its clicks are people's and are judged at once, its unsubscribes hold, and its events are of no future."""
    database, now = Database(sqlite_url), datetime.now(UTC)
    sato, kato = (database.write_now(delivered, f"{name}@aoba.example", now) for name in ("sato", "kato"))
    environment = {f"MEBAE_{name.upper()}": str(value) for name, value in LAWFUL.items()}
    async with wrong_clock(tmp_path, COURSES[clock]) as faked:
        with ServerProcess(sqlite_url, tmp_path, **environment, **faked) as server:
            async with httpx.AsyncClient(base_url=server.address) as client:
                said = {"userId": "sato@aoba.example", "event": "Page Viewed", "messageId": "m1", "properties": {"path": "/pricing"}}
                assert (await client.post("/v1/track", json=said, auth=(KEY, ""))).status_code == 200
                click = await client.get(urlsplit(sato.link(PAPER)).path, headers={"user-agent": CHROME})
                assert click.headers["location"] == PAPER
                one_click = urlsplit(kato.list_unsubscribe[0]).path
                assert (await client.post(one_click, content=b"List-Unsubscribe=One-Click")).status_code == 200
    now = datetime.now(UTC) + timedelta(seconds=15)  # the worker's clock is right
    assert await Applier(database, clock=WorldClock(), machine=lambda: now).round() == 1
    assert await Judge(database, now=lambda: now, tuning=Tuning()).round() == 1
    query = select(Event).join(Lead).where(Lead.email == "sato@aoba.example").order_by(col(Event.id))
    viewed, clicked = database.read_now(lambda session: list(session.exec(query)))
    assert clicked.properties["verdict"] == "human"
    assert max(viewed.occurred_at, viewed.received_at, clicked.occurred_at) <= now
    [suppressed] = database.read_now(lambda session: list(session.exec(select(Lead).where(col(Lead.opted_out_at).is_not(None)))))
    assert suppressed.email == "kato@aoba.example"
    assert len(database.read_now(lambda session: list(session.exec(select(Suppression))))) == 1
    database.close()
