"""`mebae crm` as a person uses it, with a database and a system of their own."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mebae import cli
from mebae.crm import outbox
from mebae.store.database import Database
from tests.crm.doubles import HubSpotDouble
from tests.crm.people import Telling_, given, hand_over, teller_of, tellings
from tests.crm.site import Said, running
from tests.crm.test_adapters import a_hubspot
from tests.leads import NOW, SATO

RUN = CliRunner()
FILE = """from mebae.crm_language import *

crm = Crm(systems=[
    hubspot("hubspot", token="HS", url="{url}", private=True, key_field="mebae_key", inbound="HS_IN",
            fields={{"lastname": "last_name", "company": "company", "mebae_score": "score"}},
            outcomes=outcomes({{"lifecyclestage": {{"customer": "won"}}}}, every=minutes(15))),
])
"""


@pytest.fixture
def site() -> Iterator[HubSpotDouble]:
    """HubSpot in a thread of its own: commands have their own loop."""
    one, ready, over = HubSpotDouble(), threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def live() -> None:
        async with running(one):
            ready.set()
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(live()))
    thread.start()
    ready.wait(10)
    yield one
    loop.call_soon_threadsafe(over.set)
    thread.join(10)
    loop.close()


@pytest.fixture
def house(site: HubSpotDouble, sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    (tmp_path / "worker.py").touch()
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "crm.py").write_text(FILE.format(url=site.url))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", sqlite_url)
    monkeypatch.setenv("HS", HubSpotDouble.token)
    monkeypatch.setenv("HS_IN", "secret")
    database = Database(sqlite_url)
    given(database, a_hubspot(site))
    yield database
    database.close()


def run(*words: str, code: int = 0) -> str:
    done = RUN.invoke(cli.commands, list(words), env={"COLUMNS": "240"})
    assert done.exit_code == code, (done.output, done.exception)
    return done.output


def told(database: Database, site: HubSpotDouble) -> None:
    async def tell() -> None:
        teller: Telling_ = teller_of(database, a_hubspot(site), {"HS": HubSpotDouble.token})
        await teller.tell()
        await teller.channel.aclose()

    asyncio.run(tell())


def test_status_says_what_waits_was_told_and_was_refused_and_retry_tells_it_again(house: Database, site: HubSpotDouble) -> None:
    hand_over(house)
    assert "hubspot" in run("crm")
    site.away = Said(400, {"message": "no"})
    told(house, site)
    shown = run("crm")
    for words in ("crm-invalid", "crm-no-lead", SATO, "400", "mebae crm retry", "lead", "activity opened"):
        assert words in shown
    as_json = json.loads(run("crm", "--json"))
    assert (as_json["systems"][0]["refused"], as_json["systems"][0]["waiting"]) == (3, 0)
    assert [one["reason"] for one in as_json["troubles"]] == ["crm-invalid", "crm-no-lead", "crm-no-lead"]
    site.away = None
    assert "3 are told again" in run("crm", "retry", "--system", "hubspot", "--lead", SATO)
    told(house, site)
    assert [status for _, status, _ in tellings(house)] == ["told"] * 3
    assert json.loads(run("crm", "--json"))["systems"][0]["leads"] == 1
    assert "nothing was refused" in run("crm", "retry")


def test_push_sends_a_lead_though_nothing_has_changed(house: Database, site: HubSpotDouble) -> None:
    lead = house.read_now(lambda session: session.get_one(outbox.Lead, 1))
    assert lead.email == SATO
    for n in (1, 2):
        assert SATO in run("crm", "push", "--lead", SATO, "--system", "hubspot")
        told(house, site)
        assert len(site.batches) == n
    run("crm", "push", "--lead", "nobody@example.jp", code=1)
    run("crm", "push", "--lead", SATO, "--system", "hubspt", code=1)


def test_test_asks_for_credentials_and_fields_and_makes_nothing(
    house: Database, site: HubSpotDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = run("crm", "test")
    assert "the token is good" in shown
    assert "webhook to /v1/crm/hubspot" in shown
    site.fields -= {"mebae_score"}
    assert "property mebae_score" in run("crm", "test", "hubspot", code=1)
    monkeypatch.setenv("HS", "wrong")
    assert "crm-credentials" in run("crm", "test", code=1)
    monkeypatch.delenv("HS")
    assert "HS is not set" in run("crm", "test", code=1)
    assert (site.records, site.activities) == ({}, [])


def test_pull_decides_now(house: Database, site: HubSpotDouble) -> None:
    hand_over(house)
    told(house, site)
    assert "0 hand-overs decided" in run("crm", "pull")
    [id] = site.records
    site.change(id, lifecyclestage="customer")
    site.records[id]["at"] = max(site.clock, NOW)
    house.write_now(lambda session: session.merge(_cursor()))
    assert "1 hand-overs decided" in run("crm", "pull", "hubspot")
    site.away = Said(503)
    assert "crm-away" in run("crm", "pull", code=1)


def _cursor() -> object:
    from mebae.store.tables import CrmCursor

    return CrmCursor(system="hubspot", read_until=NOW)


def test_without_a_file_it_says_where_to_begin(house: Database, tmp_path: Path) -> None:
    (tmp_path / "scenarios" / "crm.py").unlink()
    assert run("crm", "test", code=1) == ""
