"""The process beside the worker that composes mails: the same bytes, in order, and nothing depends on its living."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mebae.ledger import Fate
from mebae.mail import composing_beside
from mebae.mail.bulk import MANY
from mebae.mail.composing import Composed, Letter, MailContent, compose
from mebae.mail.composing_beside import Beside
from mebae.mail.message import Wire
from mebae.mail.outgoing import MailSettings
from mebae.mail.rendering import Sender
from mebae.mail.shared import Shared
from mebae.store.database import Database
from mebae.tokens import Tokens
from tests.mail.test_bulk import LAYOUT, NEWS, post
from tests.mail.test_dkim import SIGNER

NOON = datetime(2026, 4, 1, 3, 0, tzinfo=UTC)
SETTINGS = MailSettings(
    Sender("点検ノート", "news@example.com", postal="〒100-0001 東京都千代田区千代田1-1", contact="desk@example.com"), "sales@example.com",
    tokens=Tokens.read_keys(["20260101:a-secret-of-the-tests"]), public_url="https://m.example.com", signer=SIGNER,
)  # fmt: skip
SOURCE = "---\nsubject: '{{ lead.name }}様へ'\ntopic: news\n---\n{{ lead.name }}様、[資料](https://example.com/paper)をどうぞ。\n"


VALUES: dict[str, Any] = {"language": "ja", "now": NOON, "scenario": {"id": "spring", "title": "春"}}


def letter(number: int, source: str = SOURCE, **more: Any) -> Letter:
    values = VALUES | {"lead": {"name": f"佐藤 {number}"}} | more
    content = MailContent(source, "spring/news.ja.md", Shared({"default": LAYOUT}), values)
    return Letter(f"lead{number}@aoba.example", None, number, f"<b1.{number}@example.com>", NOON, (), content)


@asynccontextmanager
async def beside(settings: MailSettings = SETTINGS) -> AsyncIterator[Beside]:
    made = Beside(settings)
    try:
        yield made
    finally:
        await made.close()


def process_of(composing: Beside) -> int:
    assert composing._line is not None
    return composing._line.process.pid


async def gone(pid: int) -> bool:
    for _ in range(200):
        with suppress(ProcessLookupError):
            os.kill(pid, 0)
            await asyncio.sleep(0.05)
            continue
        return True
    return False


async def test_mails_composed_beside_are_the_same_bytes_signed_and_in_their_order() -> None:
    letters = [letter(number) for number in range(40)]
    async with beside() as composing:
        parts = await asyncio.gather(*(composing.compose(letters[at : at + 8]) for at in range(0, 40, 8)))
    mails = [mail for part in parts for mail in part]
    assert mails == [compose(one, SETTINGS) for one in letters]
    first = mails[0]
    assert isinstance(first, Composed)
    assert first.message.startswith(b"DKIM-Signature:")
    assert isinstance(first.message, Wire)  # nobody need look for dots in it again


async def test_mails_that_cannot_be_filled_in_or_cannot_travel_are_no_matter_to_their_neighbours() -> None:
    stay = letter(1, how=lambda: "by a function, which no pickle holds")
    async with beside() as composing:
        parts = await asyncio.gather(*(composing.compose([one]) for one in (letter(0), stay, letter(2))))
        assert parts == [[compose(one, SETTINGS)] for one in (letter(0), stay, letter(2))]
        mails = await composing.compose([letter(1), letter(2, SOURCE.replace("lead.name", "lead.nickname")), letter(3)])
    assert [type(mail) for mail in mails] == [Composed, Fate, Composed]
    assert isinstance(mails[1], Fate)
    assert (mails[1].kind, mails[1].code) == ("refused", "mail-invalid")


async def test_a_process_that_is_killed_loses_no_mail_and_the_next_wish_starts_another() -> None:
    async with beside() as composing:
        await composing.compose([letter(0)])
        first = process_of(composing)
        os.kill(first, signal.SIGSTOP)  # it has what it was given, and never answers
        waiting = [asyncio.create_task(composing.compose([letter(number)])) for number in range(1, 4)]
        await asyncio.sleep(0.1)
        os.kill(first, signal.SIGKILL)
        mails = [mail for part in await asyncio.gather(*waiting) for mail in part]
        assert mails == [compose(letter(number), SETTINGS) for number in range(1, 4)]
        assert await composing.compose([letter(4)]) == [compose(letter(4), SETTINGS)]
        assert process_of(composing) != first


async def test_a_process_that_hangs_is_ended_and_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async with beside() as composing:
        await composing.compose([letter(0)])
        first = process_of(composing)
        os.kill(first, signal.SIGSTOP)
        monkeypatch.setattr(composing_beside, "WITHIN", 0.2)
        assert await composing.compose([letter(1)]) == [compose(letter(1), SETTINGS)]
        assert await gone(first)


async def test_where_no_process_can_be_started_mails_are_composed_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "no-python"))
    async with beside() as composing:
        assert await composing.compose([letter(1)]) == [compose(letter(1), SETTINGS)]


async def test_somebody_who_gives_up_waiting_does_not_shift_the_others_mails() -> None:
    async with beside() as composing:
        await composing.compose([letter(0)])
        os.kill(process_of(composing), signal.SIGSTOP)
        given_up, patient = (asyncio.create_task(composing.compose([letter(number)])) for number in (1, 2))
        await asyncio.sleep(0.1)
        given_up.cancel()
        os.kill(process_of(composing), signal.SIGCONT)
        assert await patient == [compose(letter(2), SETTINGS)]


async def test_a_process_that_is_slow_to_die_takes_nothing_of_what_the_next_one_was_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with beside() as composing:
        await composing.compose([letter(0)])
        old = process_of(composing)
        assert composing._line is not None
        monkeypatch.setattr(composing._line.process, "kill", lambda: None)  # as one that is busy giving its memory back
        closing = asyncio.create_task(composing.close())
        first = asyncio.create_task(composing.compose([letter(1)]))
        while composing._line is None:
            await asyncio.sleep(0.001)
        os.kill(process_of(composing), signal.SIGSTOP)
        os.kill(old, signal.SIGKILL)
        await closing
        second = asyncio.create_task(composing.compose([letter(2)]))
        await asyncio.sleep(0.1)
        assert not first.done()
        os.kill(process_of(composing), signal.SIGCONT)
        assert await asyncio.gather(first, second) == [[compose(letter(1), SETTINGS)], [compose(letter(2), SETTINGS)]]


async def test_where_the_settings_cannot_travel_mails_are_composed_here() -> None:
    class Stays(MailSettings):
        def __reduce__(self) -> str:
            raise TypeError("no pickle holds this")

    values = {field.name: getattr(SETTINGS, field.name) for field in fields(SETTINGS)}
    async with beside(Stays(**values)) as composing:
        for number in (1, 2):
            assert await composing.compose([letter(number)]) == [compose(letter(number), SETTINGS)]


async def test_a_process_whose_words_make_no_sense_is_ended_and_the_mails_are_composed_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with beside() as composing:
        await composing.compose([letter(0)])
        process = process_of(composing)

        def nonsense(_: bytes) -> None:
            raise AttributeError("of another version")

        with monkeypatch.context() as patched:
            patched.setattr("mebae.mail.composing_beside.pickle.loads", nonsense)
            assert await composing.compose([letter(1)]) == [compose(letter(1), SETTINGS)]
        assert await gone(process)
        assert await composing.compose([letter(2)]) == [compose(letter(2), SETTINGS)]


async def test_the_process_ends_when_nobody_wants_it_and_when_its_owner_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composing_beside, "IDLE", 0.05)
    async with beside() as composing:
        await composing.compose([letter(1)])
        assert await gone(process_of(composing))
    monkeypatch.setattr(composing_beside, "IDLE", 60.0)
    async with beside() as composing:
        await composing.compose([letter(1)])
        process = process_of(composing)
    assert await gone(process)


async def test_a_broadcast_to_many_goes_out_by_way_of_it(sqlite_database: Database) -> None:
    async with post(sqlite_database) as at, beside(at.settings) as composing:
        at.mailer.beside = composing
        leads = at.leads(MANY)
        outcome = await at.mailer.send(at.broadcast, leads, NEWS, lambda: at.now)
        assert outcome.counts == {"sent": len(leads)}
        assert at.times == {f"lead{lead}@aoba.example": 1 for lead in leads}
        assert process_of(composing)


async def test_a_broadcast_whose_composing_process_dies_on_the_way_still_reaches_everybody(sqlite_database: Database) -> None:
    async with post(sqlite_database) as at, beside(replace(at.settings)) as composing:
        at.mailer.beside = composing
        leads = at.leads(MANY + 20)

        async def kill() -> None:
            while composing._line is None or not at.relay.mails:
                await asyncio.sleep(0.002)
            os.kill(process_of(composing), signal.SIGKILL)

        outcome, _ = await asyncio.gather(at.mailer.send(at.broadcast, leads, NEWS, lambda: at.now), kill())
        assert outcome.counts == {"sent": len(leads)}
        assert at.times == {f"lead{lead}@aoba.example": 1 for lead in leads}
