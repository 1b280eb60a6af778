"""What other systems say of our leads: proven, once per message, and nothing that we ourselves wrote."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import httpx
import pytest
from sqlmodel import col, select
from standardwebhooks import Webhook as Reference

from mebae.clock import WorldClock
from mebae.crm import inbound
from mebae.crm.model import System
from mebae.crm.rounds import CrmInbox, pulling, pushing
from mebae.crm.wiring import adapter_of
from mebae.crm_language import choice, webhook
from mebae.erasing import erase_lead
from mebae.handover import Move
from mebae.http.app import create_app
from mebae.http.crm import CrmIntake
from mebae.resting import Setting
from mebae.store.database import Database, lock_lead
from mebae.store.tables import CrmLink, CrmMessage, Event, Handover, HandoverEvent, Lead, Telling
from tests.crm.doubles import HubSpotDouble, KintoneDouble, SalesforceDouble
from tests.crm.people import CALENDAR, ZONE, Telling_, decide, given, hand_over, stands, teller_of, tellings
from tests.crm.site import Said, running
from tests.crm.test_adapters import HOUSES, House, a_hubspot, a_kintone, a_salesforce
from tests.leads import NOW, SATO
from tests.test_erasing import whole

SECRET, CLIENT_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "app-client-secret"
SETTING = Setting(ZONE, CALENDAR)
PUBLIC = "https://m.example.jp"


def generic() -> System:
    return webhook("erp", host="erp.example.jp", url="ERP_URL", secret="ERP_SECRET", inbound="ERP_IN")


@asynccontextmanager
async def server(database: Database, now: datetime = NOW) -> AsyncIterator[httpx.AsyncClient]:
    environ = {"ERP_IN": f"whsec_b2xk {SECRET}", "HS_IN": CLIENT_SECRET, "KT_IN": "hook-token"}
    intake = CrmIntake(database, environ, WorldClock(), SETTING, PUBLIC, machine=lambda: now)
    app = create_app(database, write_keys=["k"], clock=WorldClock(), extra_routers=[intake.routes()])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8300") as client:
        yield client


def signed(key: str, message: dict[str, Any], at: datetime = NOW, secret: str = SECRET) -> dict[str, Any]:
    """As the standard's own library signs."""
    body = json.dumps(message)
    stamp = {"webhook-id": key, "webhook-timestamp": str(int(at.timestamp()))}
    return {"content": body, "headers": stamp | {"webhook-signature": Reference(secret).sign(key, at, body)}}


def by_hubspot(events: list[dict[str, Any]], at: datetime = NOW, secret: str = CLIENT_SECRET, name: str = "hubspot") -> dict[str, Any]:
    """As developers.hubspot.com has it, written down anew."""
    body, stamp = json.dumps(events), str(int(at.timestamp() * 1000))
    source = f"POST{PUBLIC}/v1/crm/{name}{body}{stamp}"
    digest = hmac.new(secret.encode(), source.encode(), hashlib.sha256).digest()
    return {"content": body, "headers": {"X-HubSpot-Signature-v3": base64.b64encode(digest).decode(), "X-HubSpot-Request-Timestamp": stamp}}


def messages(database: Database) -> list[tuple[str, str | None]]:
    query = select(CrmMessage).order_by(col(CrmMessage.id))
    return database.read_now(lambda session: [(one.status, one.reason) for one in session.exec(query)])


def moves(database: Database) -> list[tuple[str, str]]:
    query = select(HandoverEvent).order_by(col(HandoverEvent.id))
    return database.read_now(lambda session: [(one.move, one.by) for one in session.exec(query)])


def won(lead: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "lead.won", "timestamp": "2026-04-10T01:00:00Z", "data": {"lead": lead, **more}}


# The generic webhook ------------------------------------------------------------------------------------------------------


async def test_won_by_webhook_passes_through_all_stations_once_however_often_it_is_sent(database: Database) -> None:
    given(database, generic())
    hand_over(database)
    async with server(database) as client:
        for _ in range(3):
            answer = await client.post("/v1/crm/erp", **signed("msg_1", won({"email": SATO.upper()}, amount=1_200_000, note="A社と併用")))
            assert answer.status_code == 200
    assert [move for move, _ in moves(database)] == ["open", "accept", "sql", "opportunity", "won"]
    row = database.read_now(lambda session: session.get_one(Handover, 1))
    assert (row.amount, row.note) == (1_200_000, "A社と併用")
    assert database.read_now(lambda session: session.get_one(Lead, 1).qualification) == "won"
    events = database.read_now(lambda session: session.exec(select(Event.name).where(Event.name == "Opportunity Won")).all())
    assert (len(events), messages(database)) == (1, [("done", None)])


async def test_lost_with_a_reason_of_ours_or_with_their_words(sqlite_database: Database) -> None:
    given(sqlite_database, generic())
    hand_over(sqlite_database)
    lost = {"type": "lead.lost", "data": {"lead": {"id": 1}, "reason": "稟議が下りなかった"}}
    async with server(sqlite_database) as client:
        await client.post("/v1/crm/erp", **signed("msg_1", lost))
    row = sqlite_database.read_now(lambda session: session.get_one(Handover, 1))
    assert (row.status, row.reason, row.note) == ("lost", "other", "稟議が下りなかった")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (won({"id": 1}, at="2026-04-01T00:00:00Z"), "before"),
        ({"type": "lead.returned", "data": {"lead": {"id": 1}}}, "impossible"),
    ],
)
async def test_what_cannot_be_changes_nothing_and_is_noted(sqlite_database: Database, message: dict[str, Any], reason: str) -> None:
    given(sqlite_database, generic())
    hand_over(sqlite_database)
    for move in (Move.ACCEPT, Move.SQL, Move.OPPORTUNITY):
        decide(sqlite_database, move)
    async with server(sqlite_database) as client:
        answer = await client.post("/v1/crm/erp", **signed("msg_1", message))
    assert (answer.status_code, messages(sqlite_database), stands(sqlite_database)) == (200, [("ignored", reason)], "opportunity")


async def test_lead_that_is_not_with_sales_or_is_nobody(sqlite_database: Database) -> None:
    given(sqlite_database, generic())
    async with server(sqlite_database) as client:
        assert (await client.post("/v1/crm/erp", **signed("msg_1", won({"id": 1})))).status_code == 200
        for nobody in ({"id": 99}, {"email": "x@example.jp"}, {"email": "no address"}, {"id": True}, {}):
            assert (await client.post("/v1/crm/erp", **signed("msg_2", won(nobody)))).status_code == 404
        assert (await client.post("/v1/crm/erp", **signed("msg_3", {"type": "ping"}))).status_code == 200
    assert messages(sqlite_database) == [("ignored", "not-with-sales")]


@pytest.mark.parametrize("wrong", ["none", "other secret", "altered", "old", "no system", "no inbound"])
async def test_message_without_proof_changes_nothing(sqlite_database: Database, wrong: str) -> None:
    given(sqlite_database, generic(), webhook("out", host="x.example.jp", url="A", secret="B"))
    hand_over(sqlite_database)
    path, request = "/v1/crm/erp", signed("msg_1", won({"id": 1}))
    match wrong:
        case "none":
            request["headers"] = {}
        case "other secret":
            request = signed("msg_1", won({"id": 1}), secret="whsec_b3RoZXI=")
        case "altered":
            request["content"] = request["content"].replace("won", "lost")
        case "old":
            request = signed("msg_1", won({"id": 1}), at=NOW - timedelta(minutes=6))
        case "no system":
            path = "/v1/crm/nowhere"
        case "no inbound":
            path = "/v1/crm/out"
    async with server(sqlite_database) as client:
        answer = await client.post(path, **request)
    assert answer.status_code == (404 if wrong.startswith("no ") else 401)
    assert (stands(sqlite_database), messages(sqlite_database)) == ("open", [])


# HubSpot, kintone: a webhook says that something changed, and it is read ---------------------------------------------------


async def pushed(database: Database, system: System, environ: dict[str, str]) -> Telling_:
    hand_over(database)
    teller = teller_of(database, system, environ)
    await teller.tell()
    return teller


async def looked(database: Database, system: System, environ: dict[str, str], machine: datetime = NOW) -> int:
    adapter = adapter_of(system, environ)
    inbox = CrmInbox(database, {system.name: (system, adapter)}, SETTING, clock=WorldClock(), machine=lambda: machine)
    done = await inbox.look(system.name)
    await adapter.aclose()
    return done


async def test_hubspots_webhook_has_the_contact_read_and_decides_once(database: Database) -> None:
    async with running(HubSpotDouble()) as site:
        system, environ = a_hubspot(site), HOUSES["hubspot"].environ
        given(database, system)
        teller = await pushed(database, system, environ)
        [(id, _)] = list(site.records.items())
        site.change(id, lifecyclestage="customer", deal_amount="1200000")
        event = {
            "eventId": 1, "subscriptionId": 25, "portalId": 33, "appId": 1160452, "occurredAt": 1775782800000, "attemptNumber": 0,
            "subscriptionType": "contact.propertyChange", "objectId": int(id), "propertyName": "lifecyclestage",
            "propertyValue": "customer", "changeSource": "CRM_UI",
        }  # fmt: skip
        other = {**event, "eventId": 2, "propertyName": "firstname"}
        async with server(database) as client:
            answer = await client.post("/v1/crm/hubspot", **by_hubspot([event, other]))
            assert (answer.status_code, answer.json()) == (200, {"taken": 1})
            again = await client.post("/v1/crm/hubspot", **by_hubspot([{**event, "attemptNumber": 1}]))
            assert again.json() == {"taken": 0}
            old = NOW - timedelta(minutes=6)
            for wrong in (by_hubspot([event], secret="x"), by_hubspot([event], at=old), by_hubspot([event], name="other")):
                assert (await client.post("/v1/crm/hubspot", **wrong)).status_code == 401
        assert await looked(database, system, environ) == 1
        assert await looked(database, system, environ) == 0
        assert (stands(database), messages(database)) == ("won", [("done", None)])
        assert database.read_now(lambda session: session.get_one(Handover, 1).amount) == 1_200_000
        # It hears of the lead as it is now, and not of what it has said itself.
        before = len(site.activities)
        await teller.tell()
        assert len(site.activities) == before
        await teller.channel.aclose()


async def test_kintones_webhook_with_its_token(sqlite_database: Database) -> None:
    async with running(KintoneDouble()) as site:
        system, environ = a_kintone(site), HOUSES["kintone"].environ
        given(sqlite_database, system)
        teller = await pushed(sqlite_database, system, environ)
        [id] = site.records
        site.change(id, 状態="失注", 失注理由="競合に決定")
        record = {"$id": {"type": "__ID__", "value": id}}
        said = {"id": "01bd", "type": "UPDATE_RECORD", "app": {"id": "12", "name": "リード"}, "record": record}
        async with server(sqlite_database) as client:
            for token in ("", "wrong"):
                assert (await client.post(f"/v1/crm/kintone?token={token}", json=said)).status_code == 401
            assert (await client.post("/v1/crm/kintone?token=hook-token", json={**said, "app": {"id": "99"}})).json() == {"taken": 0}
            assert (await client.post("/v1/crm/kintone?token=hook-token", json=said)).json() == {"taken": 1}
            again = await client.post("/v1/crm/kintone", json=said, headers={"X-Cybozu-Webhook-Token": "hook-token"})
            assert again.json() == {"taken": 0}
        await looked(sqlite_database, system, environ)
        row = sqlite_database.read_now(lambda session: session.get_one(Handover, 1))
        assert (row.status, row.reason, row.note) == ("lost", "other", "競合に決定")
        await teller.channel.aclose()


async def test_message_waits_while_the_system_is_away_and_is_read_on_its_return(sqlite_database: Database) -> None:
    async with running(KintoneDouble()) as site:
        system, environ = a_kintone(site), HOUSES["kintone"].environ
        given(sqlite_database, system)
        teller = await pushed(sqlite_database, system, environ)
        [id] = site.records
        site.change(id, 状態="受注")
        async with server(sqlite_database) as client:
            said = {"id": "m", "type": "UPDATE_RECORD", "app": {"id": "12"}, "record": {"$id": {"value": id}}}
            await client.post("/v1/crm/kintone?token=hook-token", json=said)
        site.away = Said(503)
        assert await looked(sqlite_database, system, environ) == 1
        assert messages(sqlite_database) == [("waiting", "crm-away")]
        assert await looked(sqlite_database, system, environ) == 0
        site.away = None
        await looked(sqlite_database, system, environ, NOW + timedelta(minutes=15))
        assert (stands(sqlite_database), messages(sqlite_database)) == ("won", [("done", None)])
        await teller.channel.aclose()


@pytest.mark.parametrize("when", ["while-it-is-read", "between-two-statements"])
async def test_lead_erased_while_its_record_is_read_leaves_no_record_id(
    database: Database, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    async with running(HubSpotDouble()) as site:
        system, environ = a_hubspot(site), HOUSES["hubspot"].environ
        given(database, system)
        teller = await pushed(database, system, environ)
        [id] = site.records
        site.records["9004711"] = site.records.pop(id)  # a number that nothing else in the database looks like
        site.change("9004711", lifecyclestage="customer")
        database.write_now(lambda session: session.exec(select(CrmLink)).one().sqlmodel_update({"their_id": "9004711"}))
        database.write_now(inbound.nudge, system, "1-9004711-5-lifecyclestage", "9004711", NOW)
        adapter = adapter_of(system, environ)
        if when == "while-it-is-read":
            really = adapter.read

            async def read(ids: Any) -> Any:
                found = await really(ids)
                await database.write(erase_lead, 1, NOW, SETTING)
                return found

            monkeypatch.setattr(adapter, "read", read)
        else:

            def lock(session: Any, lead: int) -> Any:
                if lead == 1:  # whoever held the lock before has erased it
                    monkeypatch.undo()
                    erase_lead(session, 1, NOW, SETTING)
                return lock_lead(session, lead)

            monkeypatch.setattr(inbound, "lock_lead", lock)
        inbox = CrmInbox(database, {system.name: (system, adapter)}, SETTING, clock=WorldClock(), machine=lambda: NOW)
        assert await inbox.look(system.name) == 1
        await adapter.aclose()
        assert messages(database) == [("ignored", "erased")]
        assert "9004711" not in whole(database)
        await teller.channel.aclose()


# Pulls ----------------------------------------------------------------------------------------------------------------------


def pull(database: Database, system: System, environ: dict[str, str], now: datetime = NOW) -> dict[str, int]:
    counts: dict[str, int] = {}
    for mark in pulling(system, partial(adapter_of, system, environ), SETTING)(database, lambda: now):
        counts = dict(mark.counts)
    return counts


async def in_thread(work: Any, *args: Any) -> Any:
    import asyncio

    return await asyncio.to_thread(work, *args)


@pytest.mark.parametrize("name", list(HOUSES))
async def test_pull_decides_what_changed_there_and_nothing_that_we_wrote(sqlite_database: Database, name: str) -> None:
    house: House = HOUSES[name]
    async with running(house.double()) as site:
        system = house.system(site)
        given(sqlite_database, system)
        teller = await pushed(sqlite_database, system, house.environ)
        assert (await in_thread(pull, sqlite_database, system, house.environ))["decided"] == 0  # what we pushed comes back, and is no news
        site.change(next(iter(site.records)), **{house.outcome: house.changed})
        assert (await in_thread(pull, sqlite_database, system, house.environ))["decided"] == 1
        assert stands(sqlite_database) == ("sql" if house.changed == "Qualified" else "won")
        asked = len(site.asked)
        assert (await in_thread(pull, sqlite_database, system, house.environ))["decided"] == 0  # the overlap brings it again
        assert len(site.asked) > asked
        assert messages(sqlite_database) == [("done", None)]
        await teller.channel.aclose()


async def test_customer_of_years_ago_whom_we_come_to_know_is_not_won_by_that(database: Database) -> None:
    async with running(HubSpotDouble()) as site:
        system, environ = a_hubspot(site), HOUSES["hubspot"].environ
        given(database, system)
        site.put(None, {"email": SATO, "lifecyclestage": "customer"})
        teller = await pushed(database, system, environ)
        await in_thread(pull, database, system, environ)
        assert (stands(database), messages(database)) == ("open", [])
        site.change("900", lifecyclestage="salesqualifiedlead")
        await in_thread(pull, database, system, environ)
        assert stands(database) == "sql"
        await teller.channel.aclose()


async def test_second_hand_over_is_not_decided_by_what_was_said_of_the_first(sqlite_database: Database) -> None:
    async with running(HubSpotDouble()) as site:
        system, environ = a_hubspot(site), HOUSES["hubspot"].environ
        given(sqlite_database, system)
        teller = await pushed(sqlite_database, system, environ)
        site.change("900", lifecyclestage="salesqualifiedlead")
        await in_thread(pull, sqlite_database, system, environ)
        decide(sqlite_database, Move.RETURN, reason="too-early")
        hand_over(sqlite_database, cause="command:2", now=NOW + timedelta(days=100))
        site.clock = NOW + timedelta(days=101)
        await teller.tell()  # the contact is touched by us, and its stage is still the old one
        site.change("900", firstname="健二")
        await in_thread(pull, sqlite_database, system, environ)
        assert stands(sqlite_database, 2) == "open"
        site.change("900", lifecyclestage="customer")
        await in_thread(pull, sqlite_database, system, environ)
        assert stands(sqlite_database, 2) == "won"
        await teller.channel.aclose()


async def test_field_that_we_fill_ourselves_is_an_echo_and_a_persons_change_of_it_is_not(sqlite_database: Database) -> None:
    async with running(HubSpotDouble()) as site:
        fields = {"lifecyclestage": choice("qualification", {"mql": "marketingqualifiedlead", "accepted": "salesqualifiedlead"})}
        system, environ = a_hubspot(site, fields=fields), HOUSES["hubspot"].environ
        given(sqlite_database, system)
        teller = await pushed(sqlite_database, system, environ)
        decide(sqlite_database, Move.ACCEPT)
        await teller.tell()
        assert site.records["900"]["lifecyclestage"] == "salesqualifiedlead"
        await in_thread(pull, sqlite_database, system, environ)
        assert stands(sqlite_database) == "accepted"  # and not sql, by our own word
        site.change("900", lifecyclestage="customer")
        await in_thread(pull, sqlite_database, system, environ)
        assert stands(sqlite_database) == "won"
        await teller.channel.aclose()


async def test_salesforce_deal_that_closes_after_the_conversion_is_found(sqlite_database: Database) -> None:
    async with running(SalesforceDouble()) as site:
        system, environ = a_salesforce(site), HOUSES["salesforce"].environ
        given(sqlite_database, system)
        teller = await pushed(sqlite_database, system, environ)
        [id] = site.records
        deal = {"StageName": "Closed Won", "Amount": 900000.0, "SystemModstamp": "2026-04-10T02:00:00.000+0000"}
        site.change(id, Status="Converted", ConvertedOpportunity=deal)
        await in_thread(pull, sqlite_database, system, environ)
        row = sqlite_database.read_now(lambda session: session.get_one(Handover, 1))
        assert (row.status, row.amount) == ("won", 900_000)
        await teller.channel.aclose()


# By schedule, out -----------------------------------------------------------------------------------------------------------


async def test_leads_that_changed_go_by_schedule_and_only_those(database: Database) -> None:
    async with running(KintoneDouble()) as site:
        system, environ = a_kintone(site), HOUSES["kintone"].environ
        diary = given(database, system)
        for n in range(2, 8):
            diary.is_someone(f"lead{n}@example.jp", name=f"Lead {n}", ago=timedelta(hours=2))
        later = NOW + timedelta(minutes=30)

        def push(now: datetime) -> list[dict[str, int]]:
            return [dict(mark.counts) for mark in pushing(system)(database, lambda: now)]

        assert push(NOW)[-1] == {"told": 7}
        teller = teller_of(database, system, environ)
        await teller.tell()
        assert sum(site.batches) == 7
        assert len(site.batches) < 7  # few requests for many leads
        diary.now = later
        diary.is_someone("lead3@example.jp", name="Lead three", ago=timedelta(minutes=10))
        asked = sum(site.batches)
        assert push(later)[-1] == {"told": 2}  # and who had changed shortly before the last look is looked at again
        await teller.tell()
        assert site.find("氏名", "Lead three") is not None
        assert sum(site.batches) == asked + 1
        assert sorted(status for _, status, _ in tellings(database)) == ["dropped"] + ["told"] * 8  # it is the same, and is not sent
        await teller.channel.aclose()


async def test_lead_whose_change_was_committed_late_goes_with_the_next_push(sqlite_database: Database) -> None:
    """A transaction that began before the last look, and was committed after it."""
    system = a_kintone(KintoneDouble())
    diary = given(sqlite_database, system)
    list(pushing(system)(sqlite_database, lambda: NOW))
    seconds_before = NOW - timedelta(seconds=20)
    one = diary.is_someone("late@example.jp", name="Late", ago=timedelta(seconds=20))
    sqlite_database.write_now(lambda session: session.get_one(Lead, one).sqlmodel_update({"updated_at": seconds_before, "scored_at": None}))
    assert [dict(mark.counts) for mark in pushing(system)(sqlite_database, lambda: NOW + timedelta(minutes=30))][-1]["told"] >= 1
    assert one in sqlite_database.read_now(lambda session: list(session.exec(select(Telling.lead_id).where(Telling.what == "lead"))))


async def test_refused_lead_holds_up_nobody_and_its_activity_says_why(sqlite_database: Database) -> None:
    async with running(KintoneDouble()) as site:
        system, environ = a_kintone(site), HOUSES["kintone"].environ
        diary = given(sqlite_database, system)
        diary.is_someone("two@example.jp", name="Lead 2", company="refused", ago=timedelta(hours=1))
        teller = await pushed(sqlite_database, system, environ)
        hand_over(sqlite_database, 2, "command:2")
        await teller.tell()
        became = [(status, reason) for _, status, reason in tellings(sqlite_database)]
        assert became == [("told", None)] * 3 + [("refused", "crm-invalid")] + [("refused", "crm-no-lead")] * 2
        links = sqlite_database.read_now(lambda session: [one.lead_id for one in session.exec(select(CrmLink))])
        assert links == [1]
        await teller.channel.aclose()
