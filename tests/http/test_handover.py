"""Sales' buttons: opening decides nothing, pressing decides once, and everybody is told what is so. And the API."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from sqlmodel import Session, select

from mebae import calling, handing
from mebae.clock import WorldClock
from mebae.handing import Decision, Why
from mebae.handover import Move
from mebae.http.app import create_app
from mebae.http.handover import HandoverPages
from mebae.mail.outgoing import MailSettings
from mebae.mail.rendering import Sender
from mebae.mail.sales_telling import button_url
from mebae.references import lead
from mebae.resting import Setting
from mebae.sales import Person, SalesRules
from mebae.store.database import Database, lock_lead
from mebae.store.tables import Handover, Lead, Telling
from mebae.timing import Calendar
from mebae.tokens import Kind, Tokens

TOKENS = Tokens.read_keys(["20260101:a-secret-of-the-tests"])
SETTINGS = MailSettings(
    Sender("Mebae", "mebae@example.com"), "sales@example.com", tokens=TOKENS, public_url="http://test"
)
AT = Setting("Asia/Tokyo", Calendar())
RULES = SalesRules(
    people=(
        Person(id="inoue", name="井上", email="inoue@example.com"), Person(id="hara", name="原", role="field"),
        Person(id="boss", name="部長", role="manager"),
    ),
    sql=lead.score >= 80,
)  # fmt: skip
KEY = ("the-key", "")


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def handover(database: Database) -> int:
    def write(session: Session) -> int:
        handing.publish_sales(session, RULES, now())
        one = Lead(
            email="sato@aoba.example",
            name="佐藤 健二",
            company="青葉<精機>",
            score=72,
            created_at=now(),
            updated_at=now(),
        )
        session.add(one)
        session.flush()
        locked = lock_lead(session, one.id or 0)
        assert locked is not None
        return (
            handing.open_or_join(session, locked, Why("command:1", "command", message="料金ページ"), now(), *AT).id or 0
        )

    return database.write_now(write)


@pytest.fixture
async def web(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    pages = HandoverPages(database, SETTINGS, WorldClock(), AT, ["the-key"])
    app = create_app(
        database, write_keys=["the-key"], page_keys=["page"], clock=WorldClock(), extra_routers=[pages.routes()]
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


def url(handover: int, telling: int = 1) -> str:
    found = button_url(SETTINGS, handover, telling, now())
    assert found is not None
    return found


def status(database: Database, handover: int) -> str:
    return database.read_now(lambda session: session.get_one(Handover, handover).status)


async def test_scanners_that_open_every_button_decide_nothing(
    database: Database, handover: int, web: httpx.AsyncClient
) -> None:
    for do in ("accept", "reject", "return", "sql", "won"):
        for method in ("GET", "HEAD"):
            answer = await web.request(method, f"{url(handover)}?do={do}")
            assert answer.status_code == 200
            assert "no-store" in answer.headers["cache-control"]
            assert "noindex" in answer.headers["x-robots-tag"]
    assert status(database, handover) == "open"
    page = (await web.get(f"{url(handover)}?do=reject")).text
    assert "青葉&lt;精機&gt;" in page
    assert "sato@aoba.example" not in page  # no more than is needed to recognise the lead
    assert page.index('value="reject"') < page.index('value="accept"')


async def test_a_button_pressed_twice_by_two_people_is_one_decision_and_both_are_told(
    database: Database, handover: int, web: httpx.AsyncClient
) -> None:
    first = await web.post(url(handover), data={"move": "accept", "version": "1"})
    assert (first.status_code, "「受領済み」として記録しました" in first.text) == (200, True)
    again = await web.post(url(handover), data={"move": "accept", "version": "1"})
    assert (again.status_code, "すでに「受領済み」として記録されています（井上" in again.text) == (200, True)
    late = await web.post(url(handover), data={"move": "reject", "version": "1", "reason": "other"})
    assert (late.status_code, "この回答はできません。現在は「受領済み」です（井上" in late.text) == (409, True)
    assert status(database, handover) == "accepted"
    page = (await web.get(f"{url(handover)}?do=sql")).text
    assert "SQLの条件" in page
    assert "不足" in page


async def test_forged_altered_and_foreign_tokens_are_told_nothing(
    database: Database, handover: int, web: httpx.AsyncClient
) -> None:
    good = url(handover).rpartition("/")[2]
    for wrong in (
        good[:-1] + ("A" if good[-1] != "A" else "B"), good[:10], "x", TOKENS.sign(Kind.CLICK, handover, 1, now=now()),
        TOKENS.sign(Kind.HANDOVER, handover, 99, now=now()), TOKENS.sign(Kind.HANDOVER, handover + 1, 1, now=now()),
        TOKENS.sign(Kind.HANDOVER, handover, now=now()),
        Tokens.read_keys(["20260101:another-secret-entirely"]).sign(Kind.HANDOVER, handover, 1, now=now()),
    ):  # fmt: skip
        for answer in (await web.get(f"/h/{wrong}"), await web.post(f"/h/{wrong}", data={"move": "accept"})):
            assert answer.status_code == 404
            assert "佐藤" not in answer.text
    assert status(database, handover) == "open"


async def test_after_the_deadline_the_page_says_that_the_lead_went_back(
    database: Database, handover: int, web: httpx.AsyncClient
) -> None:
    at = now()
    for _ in range(3):
        at += timedelta(days=8)
        database.write_now(handing.tend, handover, at, *AT)
    assert status(database, handover) == "expired"
    answer = await web.post(url(handover), data={"move": "accept", "version": "1"})
    assert answer.status_code == 409
    assert "回答期限を過ぎたため、このリードはマーケティングに戻りました" in answer.text
    assert "<form" not in answer.text


async def test_whoever_passed_it_on_answers_no_more_and_the_new_owner_does(
    database: Database, handover: int, web: httpx.AsyncClient
) -> None:
    passed = await web.post(url(handover), data={"move": "pass", "to": "hara", "version": "1"})
    assert passed.status_code == 200
    assert "原 さんへ引き継がれました" in (await web.get(url(handover))).text
    assert (await web.post(url(handover), data={"move": "accept", "version": "2"})).status_code == 409
    theirs = database.read_now(lambda session: session.exec(select(Telling.id).where(Telling.what == "passed")).one())
    assert (await web.post(url(handover, theirs or 0), data={"move": "accept", "version": "2"})).status_code == 200
    assert status(database, handover) == "accepted"


async def test_a_rejection_without_a_reason_is_asked_again(
    database: Database, handover: int, web: httpx.AsyncClient
) -> None:
    answer = await web.post(url(handover), data={"move": "reject", "version": "1"})
    assert (answer.status_code, "入力内容をご確認ください" in answer.text, "時期尚早" in answer.text) == (
        422,
        True,
        True,
    )
    assert (
        await web.post(url(handover), data={"move": "reject", "version": "1", "reason": "too-early"})
    ).status_code == 200
    assert status(database, handover) == "rejected"


async def test_the_api_takes_write_keys_only_and_is_idempotent(
    database: Database, handover: int, web: httpx.AsyncClient
) -> None:
    path = f"/v1/handovers/{handover}"
    assert (await web.post(f"{path}/accept")).status_code == 401
    assert (await web.post(f"{path}/accept", auth=("page", ""))).status_code == 401
    first = await web.post(f"{path}/accept", auth=KEY, json={"by": "inoue"})
    assert first.json() == {"id": handover, "status": "accepted", "version": 2, "owner": "inoue", "changed": True}
    assert (await web.post(f"{path}/accept", auth=KEY, json={"by": "inoue"})).json()["changed"] is False
    won = {"by": "crm", "skipping": True, "amount": 1200000, "message_id": "m-1"}
    assert (await web.post(f"{path}/won", auth=KEY, json=won)).json()["status"] == "won"
    assert (await web.post(f"{path}/won", auth=KEY, json=won)).json()["changed"] is False
    assert (await web.post(f"{path}/lost", auth=KEY, json={"reason": "other"})).status_code == 409
    assert (await web.post(f"{path}/fly", auth=KEY)).status_code == 422
    assert (await web.post("/v1/handovers/999/accept", auth=KEY)).status_code == 404
    assert (await web.post(f"{path}/won", auth=KEY, content=b"{")).status_code == 400


async def test_a_call_is_recorded_by_api(database: Database, handover: int, web: httpx.AsyncClient) -> None:
    def ask(session: Session) -> int:
        locked = lock_lead(session, 1)
        assert locked is not None
        return calling.ask_for(session, locked, calling.Wanted("command:9", "電話"), now(), *AT).id or 0

    call = database.write_now(ask)
    assert (await web.post(f"/v1/calls/{call}", auth=KEY, json={"outcome": "tlked"})).status_code == 422
    done = await web.post(f"/v1/calls/{call}", auth=KEY, json={"outcome": "talked", "by": "inoue"})
    assert done.json() == {"id": call, "status": "done", "outcome": "talked", "changed": True}


async def test_sales_decides_while_somebody_looks(database: Database, handover: int, web: httpx.AsyncClient) -> None:
    said = Decision(Move.PASS, "boss", "command", to="hara")
    database.write_now(handing.decide, handover, said, now(), *AT)
    mine = database.read_now(lambda session: session.exec(select(Telling.id).where(Telling.what == "passed")).one())
    answer = await web.post(url(handover, mine or 0), data={"move": "accept", "version": "1"})
    assert (answer.status_code, "確認中に状態が変わりました" in answer.text) == (409, True)
    assert re.search(r'name="version" value="2"', answer.text)


async def test_the_page_speaks_the_language_of_the_message_whatever_the_browser_prefers(
    database: Database, handover: int, web: httpx.AsyncClient
) -> None:
    german = {"Accept-Language": "de,en;q=0.5"}
    await web.post(url(handover), data={"move": "accept", "version": "1"}, headers=german)
    page = (await web.get(f"{url(handover)}?do=sql", headers=german)).text
    assert 'lang="ja"' in page
    assert "不足: スコアが80以上（現在: 72）" in page
    assert not re.search(r"score|missing|now:", re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL))

    def english(session: Session) -> None:
        people = tuple(one.model_copy(update={"language": "en"}) for one in RULES.people)
        handing.publish_sales(session, RULES.model_copy(update={"people": people}), now())

    database.write_now(english)
    page = (await web.get(f"{url(handover)}?do=sql", headers={"Accept-Language": "ja"})).text
    assert 'lang="en"' in page
    assert "missing: score ≥ 80 (now: 72)" in page
    words = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    assert re.findall("[、。（）「」・：]", words) == []
    late = await web.post(url(handover), data={"move": "won", "version": "2"})
    assert (late.status_code, "That is not possible any more. It is “accepted” now (井上" in late.text) == (409, True)
    forged = await web.get("/h/no-such-token", headers={"Accept-Language": "en"})
    assert "There is no such page" in forged.text  # nobody knows whom it was for


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"move": "reject"}, "理由をお選びください"), ({"move": "pass"}, "引き継ぎ先をお選びください"),
        ({"move": "accept", "amount": "百万"}, "金額は半角数字で"),
        ({"move": "reject", "reason": "none-of-ours"}, "入力内容をご確認ください"),
    ],
)  # fmt: skip
async def test_what_a_form_lacks_is_said_in_the_pages_language(
    database: Database, handover: int, web: httpx.AsyncClient, said: dict[str, str], told: str
) -> None:
    answer = await web.post(url(handover), data={**said, "version": "1"})
    assert (answer.status_code, told in answer.text) == (422, True)
    assert "needs a" not in answer.text
    assert status(database, handover) == "open"
