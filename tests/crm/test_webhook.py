"""The generic webhook: signed as Standard Webhooks has it, told once with one key, in order; R14."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlmodel import Session, select
from standardwebhooks import Webhook as Reference
from standardwebhooks import WebhookVerificationError

from mebae import calling
from mebae.crm import outbox, signing
from mebae.crm.model import System
from mebae.crm_language import choice, lead, sending, webhook
from mebae.erasing import erase_lead
from mebae.handover import Move
from mebae.resting import Setting
from mebae.router import route
from mebae.store.database import Database, lock_lead
from mebae.store.tables import Lead, Telling
from tests.crm.people import CALENDAR, ZONE, decide, given, hand_over, teller_of, tellings
from tests.crm.site import Asked, Said, Site, must, running
from tests.leads import NOW, Diary

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Receiver(Site):
    """Takes Standard Webhooks as their own library does."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[tuple[str, dict[str, Any]]] = []

    def answer(self, asked: Asked) -> Said:
        must((asked.method, asked.path) == ("POST", "/hook"), f"{asked.method} {asked.path}")
        must(asked.headers["content-type"] == "application/json", "no JSON")
        # The reference checks the timestamp by the machine's clock; what the message says stands in for it here.
        try:
            message = Reference(SECRET).verify(asked.body, asked.headers)
        except WebhookVerificationError as wrong:
            must(False, f"signature: {wrong}")
            raise
        self.taken.append((asked.headers["webhook-id"], message))
        return Said(204)


def system(port: int, **more: Any) -> System:
    return webhook("datahub", host=f"127.0.0.1:{port}", url="DATAHUB_URL", secret="DATAHUB_SECRET", private=True, **more)


def environ(site: Site) -> dict[str, str]:
    return {"DATAHUB_URL": f"{site.url}/hook", "DATAHUB_SECRET": SECRET}


def routed(database: Database) -> None:
    while database.write_now(route, now=NOW, zone=ZONE, calendar=CALENDAR):
        pass


async def test_lead_that_reaches_a_stage_is_told_at_once_signed_as_the_standard_has_it(database: Database) -> None:
    async with running(Receiver()) as site:
        fields = {"name": "name", "stage": choice("stage", {"interest": "興味", "consideration": "検討"}), "score": "score",
                  "fit": "fit", "engagement": "engagement", "why": "reasons", "did": "behaviour", "budget": "lead.budget"}  # fmt: skip
        one = system(site.port, fields=fields)
        diary = given(database, one)
        diary.is_someone(budget="確保済み", ago=timedelta())
        routed(database)
        teller = teller_of(database, one, environ(site))
        assert await teller.tell() == 1
        [(key, message)] = site.taken
        assert key == "crm-datahub-lead-1-1"
        assert (message["type"], message["data"]["lead"]["id"]) == ("lead.upserted", 1)
        told = message["data"]["lead"]
        assert (told["name"], told["stage"], told["budget"]) == ("佐藤 健二", "検討", "確保済み")
        assert told["score"] == int(told["fit"] + told["engagement"])
        assert "料金ページ" in told["why"]
        assert "ページ閲覧: /pricing" in told["did"]
        await teller.channel.aclose()


async def test_hand_over_tells_the_lead_first_then_what_happened_then_the_task(database: Database) -> None:
    async with running(Receiver()) as site:
        one = system(site.port)
        given(database, one)
        routed(database)
        hand_over(database)
        decide(database, Move.ACCEPT)
        teller = teller_of(database, one, environ(site))
        await teller.tell()
        assert [message["type"] for _, message in site.taken] == ["lead.upserted", "lead.activity", "lead.task", "lead.activity"]
        opened, task, accepted = (message["data"] for _, message in site.taken[1:])
        assert opened["activity"]["title"] == "営業へ引き渡し"
        assert "料金ページを閲覧" in opened["activity"]["body"]
        assert task["task"]["title"].startswith("リード対応: 佐藤 健二 様（青葉精機）")
        assert task["task"]["due"] is not None
        assert (accepted["activity"]["what"], accepted["activity"]["handover"]) == ("accept", 1)
        # What waited untried says what is so when it is told, and the event of the qualification brings nothing new.
        assert site.taken[0][1]["data"]["lead"]["qualification"] == "accepted"
        routed(database)
        await teller.tell()
        assert len(site.taken) == 4
        assert tellings(database)[-1] == ("lead", "dropped", "nobody")
        await teller.channel.aclose()


async def test_call_that_a_scenario_asks_for_is_a_task_with_its_script(sqlite_database: Database) -> None:
    async with running(Receiver()) as site:
        one = system(site.port)
        given(sqlite_database, one)

        def ask(session: Session) -> None:
            found = lock_lead(session, 1)
            assert found is not None
            calling.ask_for(session, found, calling.Wanted("command:1", "面談希望", script="予算を伺う"), NOW, ZONE, CALENDAR)

        sqlite_database.write_now(ask)
        teller = teller_of(sqlite_database, one, environ(site))
        await teller.tell()
        assert [message["type"] for _, message in site.taken] == ["lead.upserted", "lead.task"]
        task = site.taken[1][1]["data"]["task"]
        assert task["title"].startswith("お電話: 佐藤 健二")
        assert "予算を伺う" in task["body"]
        await teller.channel.aclose()


async def test_changes_that_come_while_one_waits_go_with_it_and_those_after_an_attempt_by_themselves(database: Database) -> None:
    async with running(Receiver()) as site:
        one = system(site.port)
        diary = given(database, one)
        routed(database)
        hand_over(database)
        assert [what for what, _, _ in tellings(database)] == ["lead", "activity", "task"]
        site.away = Said(503)
        teller = teller_of(database, one, environ(site))
        await teller.tell()
        diary.does("Seminar Attended", seminar="spring")
        database.write_now(outbox.tell_lead, one, diary.lead(), NOW)
        assert [what for what, _, _ in tellings(database)] == ["lead", "activity", "task", "lead"]
        site.away = None
        teller.machine += timedelta(hours=1)
        await teller.tell()
        assert [status for _, status, _ in tellings(database)][:3] == ["told"] * 3
        assert len({key for key, _ in site.taken}) == len(site.taken)
        await teller.channel.aclose()


async def test_what_has_not_changed_is_not_told_again_unless_somebody_asks(sqlite_database: Database) -> None:
    async with running(Receiver()) as site:
        one = system(site.port, fields={"name": "name"})
        given(sqlite_database, one)
        routed(sqlite_database)
        teller = teller_of(sqlite_database, one, environ(site))
        await teller.tell()

        def tell(session: Session, force: bool) -> None:
            found = lock_lead(session, 1)
            assert found is not None
            outbox.tell_lead(session, one, found, NOW, force=force)

        sqlite_database.write_now(tell, False)
        await teller.tell()
        assert len(site.taken) == 1
        sqlite_database.write_now(tell, True)
        await teller.tell()
        assert [key for key, _ in site.taken] == ["crm-datahub-lead-1-1", "crm-datahub-lead-1-3"]
        assert [status for _, status, _ in tellings(sqlite_database)] == ["told", "dropped", "told"]
        await teller.channel.aclose()


async def test_only_ripe_leads_go_and_those_that_went_are_kept_up_to_date(sqlite_database: Database) -> None:
    async with running(Receiver()) as site:
        one = system(site.port, send=sending(only=lead.score >= 1000))
        given(sqlite_database, one)
        routed(sqlite_database)
        hand_over(sqlite_database)
        assert tellings(sqlite_database) == []
        less = system(site.port, send=sending(only=lead.score >= 10, activities=False, tasks=False))
        found = sqlite_database.write_now(lambda session: outbox.tell_lead(session, less, session.get_one(Lead, 1), NOW))
        assert found is True


async def test_lead_that_is_erased_while_its_telling_waits_is_told_to_nobody(database: Database) -> None:
    async with running(Receiver()) as site:
        one = system(site.port)
        given(database, one)
        routed(database)
        hand_over(database)
        database.write_now(erase_lead, 1, NOW, Setting(ZONE, CALENDAR))
        teller = teller_of(database, one, environ(site))
        await teller.tell()
        assert site.taken == []
        assert {status for _, status, _ in tellings(database)} == {"dropped"}
        await teller.channel.aclose()


@pytest.mark.parametrize(
    ("said", "reason"),
    [(Said(503), "crm-away"), (Said(429, headers={"Retry-After": "60"}), "crm-busy"), (Said(401), "crm-credentials")],
)
async def test_no_of_now_waits_and_comes_again_with_the_same_key(sqlite_database: Database, said: Said, reason: str) -> None:
    async with running(Receiver()) as site:
        one = system(site.port)
        given(sqlite_database, one)
        routed(sqlite_database)
        site.away = said
        teller = teller_of(sqlite_database, one, environ(site))
        assert await teller.tell() == 1
        assert tellings(sqlite_database) == [("lead", "waiting", reason)]
        if reason == "crm-busy":
            teller.machine += timedelta(seconds=59)
            assert await teller.tell() == 0
        site.away = None
        teller.machine += timedelta(minutes=15)
        await teller.tell()
        assert [key for key, _ in site.taken] == ["crm-datahub-lead-1-1"]
        assert {asked.headers["webhook-id"] for asked in site.asked} == {"crm-datahub-lead-1-1"}
        await teller.channel.aclose()


async def test_no_for_good_is_refused_with_its_raw_answer_and_told_again_when_somebody_says_so(sqlite_database: Database) -> None:
    async with running(Receiver()) as site:
        one = system(site.port)
        given(sqlite_database, one)
        routed(sqlite_database)
        site.away = Said(422, {"error": "no such field"})
        teller = teller_of(sqlite_database, one, environ(site))
        await teller.tell()
        assert tellings(sqlite_database) == [("lead", "refused", "crm-invalid")]
        raw = sqlite_database.read_now(lambda session: session.exec(select(Telling.raw)).one())
        assert raw == '422 {"error": "no such field"}'
        site.away = None
        assert sqlite_database.write_now(outbox.retry, None, None) == 1
        await teller.tell()
        assert tellings(sqlite_database) == [("lead", "told", None)]
        await teller.channel.aclose()


async def test_webhook_away_for_an_hour_is_told_once_on_its_return_in_order(database: Database) -> None:
    """R14: twenty leads are handed over, some before the outage, most in it; each message arrives once, the lead before the rest."""
    async with running(Receiver()) as site:
        one = system(site.port)
        diary: Diary = given(database, one)
        teller = teller_of(database, one, environ(site))
        for n in range(2, 21):
            diary.is_someone(f"lead-{n}@example.jp", name=f"Lead {n}", ago=timedelta(days=1))
        for n in range(1, 21):
            if n == 5:
                site.away = Said(503)
            hand_over(database, n, f"command:{n}")
            await teller.tell()
        tried = 0
        for _ in range(60):
            teller.machine += timedelta(minutes=1)
            tried += await teller.tell()
        assert tried < 16 * 15  # later and later, and the first of each lane only
        before = len(site.taken)
        site.away = None
        for _ in range(16):
            teller.machine += timedelta(minutes=1)
            await teller.tell()
        keys = [key for key, _ in site.taken]
        assert (before, len(keys), len(set(keys))) == (12, 60, 60)
        by_lead: dict[int, list[str]] = {}
        for _, message in site.taken:
            by_lead.setdefault(message["data"]["lead"]["id"], []).append(message["type"])
        assert set(map(tuple, by_lead.values())) == {("lead.upserted", "lead.activity", "lead.task")}
        await teller.channel.aclose()


async def test_activity_waits_for_its_lead_though_it_could_be_told(sqlite_database: Database) -> None:
    class NoLeads(Receiver):
        """Takes everything but leads, for a while."""

        closed = True

        def answer(self, asked: Asked) -> Said:
            return Said(503) if self.closed and b'"lead.upserted"' in asked.body else super().answer(asked)

    async with running(NoLeads()) as site:
        one = system(site.port)
        diary = given(sqlite_database, one)
        diary.is_someone("two@example.jp", name="Lead 2", ago=timedelta(hours=1))
        hand_over(sqlite_database)
        hand_over(sqlite_database, 2, "command:2")
        teller = teller_of(sqlite_database, one, environ(site))
        await teller.tell()
        teller.machine += timedelta(minutes=1)
        await teller.tell()
        assert site.taken == []
        site.closed = False
        teller.machine += timedelta(minutes=15)
        await teller.tell()
        assert len(site.taken) == 6
        await teller.channel.aclose()


async def test_answer_that_was_lost_is_asked_for_again_with_the_same_id_and_fresh_time(sqlite_database: Database) -> None:
    async with running(Receiver()) as site:
        one = system(site.port)
        given(sqlite_database, one)
        routed(sqlite_database)
        site.cuts = 1
        teller = teller_of(sqlite_database, one, environ(site))
        await teller.tell()
        assert tellings(sqlite_database) == [("lead", "waiting", "crm-away")]
        teller.machine += timedelta(minutes=1)
        await teller.tell()
        assert [key for key, _ in site.taken] == ["crm-datahub-lead-1-1"] * 2  # the receiver knows it by that
        await teller.channel.aclose()


# Signatures ---------------------------------------------------------------------------------------------------------------


def test_signature_is_that_of_the_standards_own_library() -> None:
    at, body = datetime.now(UTC), json.dumps({"name": "佐藤"}, ensure_ascii=False).encode()
    ours = signing.headers(SECRET, "msg_1", at, body)
    assert ours["webhook-signature"] == Reference(SECRET).sign("msg_1", at, body.decode())
    assert Reference(SECRET).verify(body, ours) == {"name": "佐藤"}


@pytest.mark.parametrize("change", ["body", "id", "time", "signature", "secret", "old", "none"])
def test_altered_message_is_not_signed(change: str) -> None:
    at = datetime(2026, 4, 10, tzinfo=UTC)
    body, given_, secrets, now = b'{"a":1}', signing.headers(SECRET, "msg_1", at, b'{"a":1}'), [SECRET], at
    assert signing.is_signed(secrets, given_, body, now)
    several = {**given_, "webhook-signature": f"v1,xxxx {given_['webhook-signature']}"}
    assert signing.is_signed(["whsec_b3RoZXI=", SECRET], several, body, now)
    match change:
        case "body":
            body = b'{"a":2}'
        case "id":
            given_["webhook-id"] = "msg_2"
        case "time":
            given_["webhook-timestamp"] = str(int(at.timestamp()) + 1)
        case "signature":
            given_["webhook-signature"] = "v1,AAAA"
        case "secret":
            secrets = ["whsec_b3RoZXI="]
        case "old":
            now = at + timedelta(minutes=6)
        case "none":
            secrets = []
    assert not signing.is_signed(secrets, given_, body, now)
