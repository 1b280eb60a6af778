"""What every transport keeps to, by SMTP and by HTTP: each is put to the same cases (a new transport inherits them)."""

from __future__ import annotations

import asyncio
import itertools
import re
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Literal

import pytest

from mebae.errors import MailServerUnavailable, RecipientRefused
from mebae.mail.http_transport import LONGEST_REST, HttpTransport
from mebae.mail.rendering import BrokenMail
from mebae.mail.transport import Receipt, RelayRefused, RelayUnavailable, SmtpTransport, Transport
from mebae.store.database import Database
from tests.mail import apis, relays
from tests.mail.test_bulk import NOON, post

NUMBERS = itertools.count(1)
Behaviour = Literal["refused", "not now", "silent", "gone"]
"""What a server does when it has the whole message."""


def message() -> bytes:
    """Each another one, with a Message-ID of its own."""
    head = f"From: a@example.com\r\nSubject: x\r\nMessage-ID: <{next(NUMBERS)}.1.abc@example.com>\r\n".encode()
    return head + b"\r\n.dot\r\n..two\r\nend" + b"\r\nx" * 50 + b"\r\n"


class TransportCases:
    """The contract of `Transport`. A subclass runs a real server for its transport."""

    unknown_when_lost: bool
    """Whether a message whose answer was lost may have been taken, as far as this transport can tell."""

    @asynccontextmanager
    async def serving(self, behaviours: Sequence[Behaviour] = (), **more: Any) -> AsyncIterator[Transport]:
        """A transport to a server that does this with the messages to come, and then takes all. `connections` may be given."""
        raise NotImplementedError
        yield

    def taken(self) -> list[tuple[str, str, bytes]]:
        """What the server took: sender, recipient, message."""
        raise NotImplementedError

    def to_nobody(self) -> Transport:
        """A transport to a port on which nobody listens."""
        raise NotImplementedError

    async def send(
        self, transport: Transport, to: str = "taro@example.jp", before_data: Any = None, mail: bytes | None = None
    ) -> Receipt:
        async def fine() -> None:
            pass

        return await transport.deliver("bounce@example.com", to, mail or message(), before_data=before_data or fine)

    async def test_a_mail_arrives_whole_with_its_envelope(self) -> None:
        async with self.serving() as transport:
            mail = message()
            receipt = await self.send(transport, mail=mail)
            assert 200 <= receipt.code < 300
            assert receipt.text
        assert self.taken() == [("bounce@example.com", "taro@example.jp", mail)]

    async def test_the_last_word_may_be_no_and_then_nothing_was_sent(self) -> None:
        async with self.serving() as transport:

            async def no() -> None:
                raise LookupError("somebody else has it")

            with pytest.raises(LookupError, match="somebody else"):
                await self.send(transport, before_data=no)
            assert self.taken() == []
            await self.send(transport, "hanako@example.jp")
        assert [to for _, to, _ in self.taken()] == ["hanako@example.jp"]

    async def test_a_no_for_ever_is_a_code_with_the_words_beside_it(self) -> None:
        async with self.serving(["refused"]) as transport:
            with pytest.raises(RelayRefused) as no:
                await self.send(transport)
            assert isinstance(no.value, RecipientRefused)
            assert str(no.value) == "recipient-refused"
            assert re.match(r"[45]\d\d ", no.value.raw)
            assert no.value.__cause__ is None
            await self.send(transport)
        assert len(self.taken()) == 1

    async def test_a_no_for_now_is_no_doubt(self) -> None:
        async with self.serving(["not now"]) as transport:
            with pytest.raises(RelayUnavailable) as away:
                await self.send(transport)
            assert isinstance(away.value, MailServerUnavailable)
            assert (str(away.value), away.value.after_data) == ("mail-server-unavailable", False)
            await self.send(transport)
        assert len(self.taken()) == 1

    @pytest.mark.parametrize("how", ["silent", "gone"])
    async def test_no_answer_to_the_message_says_whether_it_may_have_arrived(self, how: Behaviour) -> None:
        async with self.serving([how]) as transport:
            with pytest.raises(RelayUnavailable) as away:
                await self.send(transport)
            assert away.value.after_data is self.unknown_when_lost
            assert away.value.raw
            await self.send(transport)

    async def test_nobody_there(self) -> None:
        transport = self.to_nobody()
        with pytest.raises(RelayUnavailable) as away:
            await self.send(transport)
        assert not away.value.after_data
        assert away.value.__cause__ is None
        await transport.aclose()

    async def test_a_delivery_that_hangs_holds_one_slot_and_no_more(self) -> None:
        async with self.serving(["silent"], connections=2) as transport:
            stuck = asyncio.create_task(self.send(transport))
            await asyncio.sleep(0.1)
            for n in range(10):
                await self.send(transport, f"lead{n}@example.jp")
            assert not stuck.done()
            with pytest.raises(RelayUnavailable):
                await stuck
        assert len(self.taken()) == 10

    async def test_a_cancelled_delivery_frees_its_slot(self) -> None:
        async with self.serving(["silent"], connections=1) as transport:
            task = asyncio.create_task(self.send(transport))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await self.send(transport)

    async def test_thirty_mails_at_once_arrive_once_each(self) -> None:
        async with self.serving(connections=3) as transport:
            await asyncio.gather(*(self.send(transport, f"lead{n}@example.jp") for n in range(30)))
        assert sorted(to for _, to, _ in self.taken()) == sorted(f"lead{n}@example.jp" for n in range(30))

    @pytest.mark.parametrize("address", ["", "a@b c", "太郎@example.jp", "a\r\nBcc: x@example.jp"])
    async def test_an_impossible_address_is_told_before_anybody_is_asked(self, address: str) -> None:
        async with self.serving() as transport:

            async def asked() -> None:
                raise AssertionError("the ledger was asked for a mail that cannot go")

            with pytest.raises(BrokenMail):
                await self.send(transport, address, asked)
        assert self.taken() == []


class TestSmtp(TransportCases):
    unknown_when_lost = True

    @asynccontextmanager
    async def serving(self, behaviours: Sequence[Behaviour] = (), **more: Any) -> AsyncIterator[Transport]:
        answers: dict[Behaviour, str] = {
            "refused": "550 5.7.1 spam", "not now": "451 4.3.2 later", "silent": relays.HANG, "gone": relays.DROP
        }  # fmt: skip
        async with relays.relay() as self.at:
            self.at.script["BODY"] = [answers[one] for one in behaviours]
            transport = SmtpTransport("127.0.0.1", self.at.port, **({"timeout": 0.8} | more))
            yield transport
            await transport.aclose()

    def taken(self) -> list[tuple[str, str, bytes]]:
        return self.at.mails

    def to_nobody(self) -> Transport:
        return SmtpTransport("127.0.0.1", unused_port(), timeout=0.8)


class TestHttp(TransportCases):
    unknown_when_lost = False
    """The API knows the key: another try is no second mail."""
    knows_keys = True

    @asynccontextmanager
    async def serving(self, behaviours: Sequence[Behaviour] = (), **more: Any) -> AsyncIterator[Transport]:
        answers: dict[Behaviour, str] = {
            "refused": "422 Unprocessable Entity", "not now": "503 Service Unavailable", "silent": apis.HANG, "gone": apis.DROP
        }  # fmt: skip
        async with apis.api() as self.at:
            self.at.script = [answers[one] for one in behaviours]
            transport = HttpTransport(self.at.url, "a-key", **({"timeout": 0.8, "knows_keys": self.knows_keys} | more))
            yield transport
            await transport.aclose()

    def taken(self) -> list[tuple[str, str, bytes]]:
        assert self.at.twice == []
        return [(one.headers["envelope-from"], one.headers["envelope-to"], one.body) for one in self.at.taken.values()]

    def to_nobody(self) -> Transport:
        return HttpTransport(f"http://127.0.0.1:{unused_port()}/", "a-key", timeout=0.8)


class TestHttpWithoutKeys(TestHttp):
    unknown_when_lost = True
    knows_keys = False


    async def test_what_nobody_knows_of_a_server_error_is_not_tried_again_for_nothing(self) -> None:
        async with self.serving() as transport:
            self.at.script = ["500 Internal Server Error", "504 Gateway Timeout", "503 Service Unavailable"]
            doubts = []
            for _ in range(3):
                with pytest.raises(RelayUnavailable) as away:
                    await self.send(transport)
                doubts.append(away.value.after_data)
        assert doubts == [self.unknown_when_lost, self.unknown_when_lost, False]


# What is HTTP's own --------------------------------------------------------------------------------------------------


async def send(transport: Transport, mail: bytes) -> Receipt:
    return await TransportCases().send(transport, mail=mail)


async def test_every_try_of_a_mail_carries_its_message_id_as_the_key() -> None:
    """The API went down after it had taken the mail and before it could say so."""
    async with apis.api() as at:
        transport = HttpTransport(at.url, "a-key", timeout=0.5)
        mail = message()
        at.script = ["502 Bad Gateway", None]
        with pytest.raises(RelayUnavailable):
            await send(transport, mail)
        await send(transport, mail)
        await transport.aclose()
    assert {one.key for one in at.posted} == {re.search(r"<[^>]+>", mail.decode())[0]}  # type: ignore[index]
    assert {one.headers["authorization"] for one in at.posted} == {"Bearer a-key"}
    assert {one.headers["content-type"] for one in at.posted} == {"message/rfc822"}
    assert len(at.taken) == 1


@pytest.mark.parametrize("code", [401, 402, 403, 404, 405, 407, 301, 302, 408, 409, 423, 425, 429, 501, 503])
async def test_what_is_not_the_recipients_fault_is_tried_again(code: int) -> None:
    async with apis.api() as at:
        transport = HttpTransport(at.url, "wrong")
        at.script = [f"{code} No\nLocation: /elsewhere"]
        with pytest.raises(RelayUnavailable) as away:
            await send(transport, message())
        assert away.value.raw == f"{code} no"
        await transport.aclose()
    assert len(at.posted) == 1, "a redirect is not followed: a mail goes where the settings say"


@pytest.mark.parametrize("code", [400, 406, 410, 413, 415, 422, 451])
async def test_what_the_api_wants_at_no_time_is_refused(code: int) -> None:
    async with apis.api() as at:
        transport = HttpTransport(at.url, "a-key")
        at.script = [f"{code} No"]
        with pytest.raises(RelayRefused):
            await send(transport, message())
        await transport.aclose()


DATE = "Wed, 01 Apr 2026 03:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "rest"),
    [
        ("Retry-After: 7", timedelta(seconds=7)),
        (f"Date: {DATE}\nRetry-After: Wed, 01 Apr 2026 03:05:00 GMT", timedelta(minutes=5)),
        (f"Date: {DATE}\nRetry-After: Wed, 01 Apr 2026 02:00:00 GMT", timedelta(0)),
        ("Retry-After: 99999999999999", LONGEST_REST),
        ("Retry-After: Wed, 01 Apr 2026 03:05:00 GMT", None),
        ("Retry-After: soon", None),
        ("X-Nothing: 1", None),
    ],
)
async def test_retry_after_is_heeded(headers: str, rest: timedelta | None) -> None:
    async with apis.api() as at:
        transport = HttpTransport(at.url, "a-key")
        at.script = [f"429 Too Many Requests\n{headers}"]
        with pytest.raises(RelayUnavailable) as away:
            await send(transport, message())
        assert away.value.retry_after == rest
        if rest:
            with pytest.raises(RelayUnavailable) as again:
                await send(transport, message())
            assert again.value.retry_after is not None
            assert timedelta(0) < again.value.retry_after <= rest
            assert len(at.posted) == 1, "the API is left alone meanwhile"
        else:
            await send(transport, message())
        await transport.aclose()


async def test_an_api_that_is_away_is_asked_again_and_gets_each_mail_once(database: Database) -> None:
    """An hour without the API: what waits comes again with the same key, and is there once. Other mail goes on meanwhile."""
    async with post(database) as at:
        leads = at.leads(3)
        transport = HttpTransport(f"http://127.0.0.1:{unused_port()}/v1/messages", "a-key", timeout=1.0)
        port = int(transport.url.split(":")[2].split("/")[0])
        away = leads
        for _ in range(4):
            outcome = await at.send(away, by=transport)
            assert outcome.counts == {"postponed": 3}
            at.now = max(until for _, until in outcome.later)
        assert timedelta(hours=1) < at.now - NOON
        others = at.leads(2)
        assert (await at.send(others)).counts == {"sent": 2}, "by SMTP"
        async with apis.api(port) as back:
            back.script = [apis.DROP, "503 Service Unavailable\nRetry-After: 0"]
            outcome = await at.send(away, by=transport)
            at.now = max(until for _, until in outcome.later)
            assert (await at.send(away, by=transport)).counts == {"sent": 3}
        await transport.aclose()
    rows = at.rows()
    assert sorted(back.taken) == sorted(rows[lead].message_id for lead in leads)
    assert back.twice == []


async def test_a_rest_that_the_api_asked_for_is_longer_than_our_own_back_off(database: Database) -> None:
    async with post(database) as at, apis.api() as busy:
        [lead] = at.leads(1)
        transport = HttpTransport(busy.url, "a-key")
        busy.script = ["429 Too Many Requests\nRetry-After: 1800"]
        outcome = await at.send([lead], by=transport)
        assert outcome.later == ((lead, NOON + timedelta(minutes=30)),)
        await transport.aclose()


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
