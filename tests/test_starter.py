"""Starting journeys and telling them things, as functions and as a command."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlmodel import Session, select

import starter
from mebae import contracts
from mebae.errors import BadInput, NotFound
from mebae.loading import load_all
from mebae.publishing import publish
from mebae.settings import Settings
from mebae.store.database import Database
from mebae.store.tables import Event, JourneyRow, Lead
from tests.dev_server import DevServer, dev_server

ROOT = Path(__file__).parents[1]
NOW = datetime(2026, 4, 1, 1, 0, tzinfo=UTC)


def leads(session: Session) -> None:
    for email, industry in (("sato@aoba.example", "manufacturing"), ("kato@minato.example", "retail")):
        session.add(Lead(email=email, industry=industry, industry_group=industry, created_at=NOW, updated_at=NOW))


@pytest.fixture
def settings(tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """A database with the real scenario and two leads: one in its audience, one not. No Temporal."""
    for name in [name for name in os.environ if name.startswith(("MEBAE_", "TEMPORAL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DATABASE_URL", sqlite_url)
    monkeypatch.setenv("MEBAE_STATE", str(tmp_path))
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    monkeypatch.setattr("mebae.starting.PATIENCE", timedelta(seconds=1))
    database = Database(sqlite_url)
    database.write_now(publish, load_all(ROOT), root=ROOT / "scenarios", now=NOW)
    database.write_now(leads)
    yield Settings()
    database.close()


@pytest.fixture
async def temporal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> AsyncIterator[DevServer]:
    async with dev_server(tmp_path) as server:
        monkeypatch.setenv("TEMPORAL_ADDRESS", server.address)
        yield server


async def command(*words: str) -> tuple[int, str, str]:
    """`starter.py` as a person runs it: exit code, what it says, what it complains."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "starter.py", *words, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_a_lead_who_is_started_is_on_a_journey_that_temporal_knows_and_a_repeated_command_starts_nothing(
    temporal: DevServer, settings: Settings
) -> None:
    props = {"content": "whitepaper-7"}
    started = await starter.start("whitepaper-followup", "sato@aoba.example", properties=props, command="crm-1", settings=settings)
    again = await starter.start("whitepaper-followup", "sato@aoba.example", properties=props, command="crm-1", settings=settings)
    assert started.running
    assert started.workflow_id == contracts.workflow_id("whitepaper-followup", 1, "whitepaper-7")
    assert again == started
    client = await temporal.connect()
    description = await client.get_workflow_handle(started.workflow_id).describe()
    assert await description.memo_value("entry") == started.entry
    lines = await starter.list_journeys(settings=settings)
    assert [(line.lead, line.status, line.workflow_id) for line in lines] == [("sato@aoba.example", "running", started.workflow_id)]


async def test_the_command_starts_tells_and_lists(temporal: DevServer, settings: Settings) -> None:
    code, out, _ = await command("start", "whitepaper-followup", "--lead", "sato@aoba.example", "--prop", "content=whitepaper-7")
    assert (code, "runs: journey/whitepaper-followup/1/" in out) == (0, True)
    code, out, _ = await command("signal", "Sato@Aoba.example", "Viewed Page", "--prop", "path=/pricing", "--message-id", "web-1")
    assert (code, "stored" in out) == (0, True)
    code, out, _ = await command("signal", "sato@aoba.example", "Page Viewed", "--prop", "path=/pricing", "--message-id", "web-1")
    assert (code, "known already" in out) == (0, True)
    code, out, _ = await command("signal", "sato@aoba.example", "Page Viwed", "--prop", "path=/pricing")
    assert (code, "no event is called 'Page Viwed', did you mean 'Page Viewed'?" in out) == (0, True)
    code, out, _ = await command("list", "--status", "open")
    assert (code, "sato@aoba.example" in out) == (0, True)


async def test_temporal_away_the_entry_is_recorded_and_the_command_says_so(settings: Settings) -> None:
    code, out, err = await command("start", "whitepaper-followup", "--lead", "sato@aoba.example", "--prop", "content=whitepaper-7")
    assert code == 0, err
    assert "is recorded; Temporal does not answer" in out
    [line] = await starter.list_journeys(settings=settings)
    assert line.status == "starting"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("start", "whitepaper-folowup", "--lead", "sato@aoba.example"), "did you mean 'whitepaper-followup'?"),
        (("start", "whitepaper-followup", "--lead", "satoh@aoba.example"), "did you mean 'sato@aoba.example'?"),
        (("start", "whitepaper-followup", "--lead", "kato@minato.example", "--prop", "content=x"), "not in the scenario's audience"),
        (("start", "whitepaper-followup", "--lead", "sato@aoba.example"), "add it with --prop"),
        (("start", "whitepaper-followup", "--lead", "sato@aoba.example", "--prop", "content"), "write key=value"),
        (("signal", "satoh@aoba.example", "Page Viewed"), "did you mean 'sato@aoba.example'?"),
        (("list", "--status", "sleeping"), "no such status 'sleeping'"),
    ],
)
async def test_a_slip_ends_with_the_cure_and_no_traceback(settings: Settings, words: tuple[str, ...], said: str) -> None:
    code, _, err = await command(*words)
    assert code == 1
    assert said in err
    assert "Traceback" not in err


async def test_a_refused_entry_is_kept_with_its_reason(settings: Settings) -> None:
    with pytest.raises(starter.EntryRefused) as refused:
        await starter.start("whitepaper-followup", "kato@minato.example", properties={"content": "whitepaper-7"}, settings=settings)
    assert refused.value.reason == "audience"
    [line] = await starter.list_journeys(lead="kato@minato.example", settings=settings)
    assert (line.status, line.reason) == ("refused", "audience")


async def test_an_event_of_an_unknown_address_makes_no_lead(settings: Settings, sqlite_database: Database) -> None:
    with pytest.raises(NotFound, match=r"lead 'nobody@nowhere\.example' not found"):
        await starter.signal("nobody@nowhere.example", "Page Viewed", settings=settings)
    with pytest.raises(BadInput, match="that is ours"):
        await starter.signal("sato@aoba.example", "Page Viewed", message_id="step:1:thanks:1", settings=settings)
    count = sqlite_database.write_now(lambda session: (len(session.exec(select(Lead)).all()), len(session.exec(select(Event)).all())))
    assert count == (2, 0)


async def test_identify_writes_on_the_lead(settings: Settings, sqlite_database: Database) -> None:
    assert await starter.signal("sato@aoba.example", "Lead Identified", properties={"score": 72}, settings=settings)
    score = sqlite_database.write_now(lambda session: session.exec(select(Lead.score).where(Lead.id == 1)).one())
    assert score == 72


async def test_an_empty_house_says_what_to_do_first(empty_sqlite_url: str, settings: Settings) -> None:
    empty = settings.model_copy(update={"database_url": empty_sqlite_url})
    with pytest.raises(NotFound, match="start the worker once"):
        await starter.start("whitepaper-followup", "sato@aoba.example", settings=empty)
    with pytest.raises(NotFound, match="mebae import-leads"):
        await starter.signal("sato@aoba.example", "Page Viewed", settings=empty)
    database = Database(empty_sqlite_url)
    assert database.write_now(lambda session: session.exec(select(JourneyRow)).all()) == []
    database.close()
