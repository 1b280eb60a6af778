"""Every way in which a mail server lets one down, with a real server in the process."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from mebae.errors import MailServerUnavailable, RecipientRefused
from mebae.mail.message import ADDRESS_INVALID
from mebae.mail.rendering import BrokenMail
from mebae.mail.transport import RelayRefused, RelayUnavailable, SmtpTransport, Transport
from tests.mail import relays
from tests.mail.relays import DROP, HANG, Relay, relay

MESSAGE = b"From: a@example.com\r\nTo: taro@example.jp\r\nSubject: x\r\n\r\n.dot\r\n..two\r\nend" + b"\r\nx" * 50
NAMED = "550 5.1.1 <taro@example.jp>: Recipient address rejected"


@asynccontextmanager
async def sending(at: Relay, **more: Any) -> AsyncIterator[SmtpTransport]:
    transport = SmtpTransport("127.0.0.1", at.port, **({"timeout": 2.0} | more))
    try:
        yield transport
    finally:
        await transport.aclose()


@pytest.fixture(params=["one command at a time", "pipelining"], autouse=True)
def offers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fault, with servers of both kinds."""
    monkeypatch.setattr(relays, "OFFERS", ["PIPELINING"] if request.param == "pipelining" else [])


async def nothing() -> None:
    pass


async def send(transport: Transport, to: str = "taro@example.jp", before_data: Any = nothing) -> Any:
    return await transport.deliver("bounce@example.com", to, MESSAGE, before_data=before_data)


async def test_mails_go_out_whole_over_one_connection() -> None:
    async with relay() as at, sending(at) as transport:
        for _ in range(5):
            assert await send(transport) == (250, "taken")
    assert at.connections == 1
    assert at.mails == [("bounce@example.com", "taro@example.jp", MESSAGE + b"\r\n")] * 5


async def test_the_last_word_comes_between_rcpt_and_data() -> None:
    async with relay() as at, sending(at) as transport:

        async def last_word() -> None:
            at.log.append("last word")

        await send(transport, before_data=last_word)
    assert at.log == ["CONNECT", "MAIL", "RCPT", "last word", "DATA", "BODY"]


async def test_a_lead_who_opts_out_at_the_last_moment_gets_nothing_and_the_line_is_kept() -> None:
    async with relay() as at, sending(at) as transport:

        async def no() -> None:
            raise LookupError("somebody else has it")

        with pytest.raises(LookupError, match="somebody else"):
            await send(transport, before_data=no)
        assert at.mails == []
        await send(transport, "hanako@example.jp")
    assert at.log == ["CONNECT", "MAIL", "RCPT", "RSET", "MAIL", "RCPT", "DATA", "BODY"]
    assert at.connections == 1
    assert [mail[1] for mail in at.mails] == ["hanako@example.jp"]


REFUSALS = [
    ("MAIL", "450 slow down", RelayUnavailable), ("MAIL", "550 no", RelayRefused), ("MAIL", "530 log in first", RelayUnavailable),
    ("RCPT", "451 greylisted", RelayUnavailable), ("RCPT", NAMED, RelayRefused), ("RCPT", "552 full", RelayRefused),
    ("DATA", "451 not now", RelayUnavailable), ("DATA", "554 no valid recipients", RelayRefused),
    ("BODY", "451 try later", RelayUnavailable), ("BODY", "550 spam", RelayRefused), ("BODY", "552 too big", RelayRefused),
]  # fmt: skip


@pytest.mark.parametrize(("moment", "answer", "kind"), REFUSALS)
async def test_a_definite_no_is_told_apart_and_the_next_mail_goes_out(moment: str, answer: str, kind: type) -> None:
    async with relay() as at, sending(at) as transport:
        at.script[moment] = [answer]
        with pytest.raises(kind) as no:
            await send(transport)
        assert str(no.value) in ("mail-server-unavailable", "recipient-refused"), "codes only: Temporal keeps them"
        assert isinstance(no.value, MailServerUnavailable | RecipientRefused)
        assert no.value.__cause__ is None
        assert no.value.raw == answer  # type: ignore[union-attr]
        assert not getattr(no.value, "after_data", False)
        assert await send(transport) == (250, "taken")
    assert at.connections <= 2
    assert len(at.mails) == 1


@pytest.mark.parametrize("moment", ["CONNECT", "MAIL", "RCPT", "DATA", "BODY"])
async def test_421_ends_the_connection_which_is_never_used_again(moment: str) -> None:
    async with relay() as at, sending(at) as transport:
        at.script[moment] = ["421 closing", None]
        with pytest.raises(RelayUnavailable) as away:
            await send(transport)
        assert away.value.raw.startswith("421")
        assert not away.value.after_data
        await send(transport)
    assert at.connections == 2
    assert len(at.mails) == 1


@pytest.mark.parametrize(
    ("moment", "unknown"), [("CONNECT", False), ("MAIL", False), ("RCPT", False), ("DATA", False), ("BODY", True)]
)
@pytest.mark.parametrize("fault", [HANG, DROP])
async def test_silence_and_dropped_lines_say_whether_the_mail_may_have_arrived(
    moment: str, unknown: bool, fault: str
) -> None:
    async with relay() as at, sending(at, timeout=0.3) as transport:
        at.script[moment] = [fault]
        begun = time.monotonic()
        with pytest.raises(RelayUnavailable) as away:
            await send(transport)
        assert away.value.after_data is unknown
        assert str(away.value) == "mail-server-unavailable"
        assert time.monotonic() - begun < 2
        await send(transport)
    assert at.connections == 2
    assert len(at.mails) == 1


async def test_a_line_cut_in_the_middle_of_the_message_is_unknown() -> None:
    async with relay() as at, sending(at) as transport:
        at.cut_body = True
        with pytest.raises(RelayUnavailable) as away:
            await send(transport)
        assert away.value.after_data
        assert at.mails == []


async def test_nothing_was_sent_if_the_line_died_while_the_last_word_was_spoken() -> None:
    async with relay() as at, sending(at) as transport:

        async def slow() -> None:
            at.drop_all()
            await asyncio.sleep(0.05)

        with pytest.raises(RelayUnavailable) as away:
            await send(transport, before_data=slow)
        assert not away.value.after_data


async def test_a_connection_that_the_server_closed_meanwhile_is_replaced_without_a_word() -> None:
    async with relay() as at, sending(at) as transport:
        await send(transport)
        at.drop_all()
        await asyncio.sleep(0.05)
        await send(transport)
        assert at.connections == 2
        for fault in (DROP, "421 idle too long"):
            at.script["MAIL"] = [fault]
            await send(transport)
        assert at.connections == 4
    assert len(at.mails) == 4


async def test_a_server_that_drops_new_connections_too_is_unavailable_and_not_tried_for_ever() -> None:
    async with relay() as at, sending(at) as transport:
        await send(transport)
        at.script["MAIL"] = [DROP] * 9
        with pytest.raises(RelayUnavailable):
            await send(transport)
        assert at.connections == 2


async def test_a_hanging_delivery_holds_its_slot_and_no_other() -> None:
    async with relay() as at, sending(at, connections=2, timeout=1.5) as transport:
        at.script["RCPT"] = [HANG]
        stuck = asyncio.create_task(send(transport))
        await asyncio.sleep(0.1)
        begun = time.monotonic()
        for _ in range(20):
            await send(transport)
        assert time.monotonic() - begun < 1.4
        assert not stuck.done()
        with pytest.raises(RelayUnavailable):
            await stuck
    assert at.connections == 2


async def test_when_every_connection_hangs_the_next_mail_does_not_wait_for_ever() -> None:
    async with relay() as at, sending(at, connections=1, timeout=0.2) as transport:
        held = asyncio.Event()

        async def wait() -> None:
            await held.wait()

        stuck = asyncio.create_task(send(transport, before_data=wait))
        await asyncio.sleep(0.05)
        with pytest.raises(RelayUnavailable) as away:
            await send(transport)
        assert "busy" in away.value.raw
        held.set()
        await stuck


async def test_forty_mails_at_once_share_the_connections() -> None:
    async with relay() as at, sending(at, connections=3) as transport:
        await asyncio.gather(*(send(transport, f"lead{n}@example.jp") for n in range(40)))
    assert at.connections <= 3
    assert sorted(mail[1] for mail in at.mails) == sorted(f"lead{n}@example.jp" for n in range(40))


async def test_a_cancelled_delivery_drops_its_connection_and_frees_its_slot() -> None:
    async with relay() as at, sending(at, connections=1) as transport:
        at.script["BODY"] = [HANG]
        task = asyncio.create_task(send(transport))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await send(transport)
    assert at.connections == 2


async def test_a_reset_that_fails_costs_only_the_connection() -> None:
    async with relay() as at, sending(at) as transport:
        at.script |= {"RCPT": [NAMED], "RSET": [DROP]}
        with pytest.raises(RelayRefused):
            await send(transport)
        await send(transport)
    assert at.connections == 2


async def test_no_server_at_all() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    transport = SmtpTransport("127.0.0.1", port, timeout=1)
    with pytest.raises(RelayUnavailable) as away:
        await send(transport)
    assert not away.value.after_data
    assert "cannot connect" in away.value.raw


@pytest.mark.parametrize("address", ["太郎@example.jp", "a@b>\r\nRCPT TO:<c@d", "no-address"])
async def test_an_address_that_would_break_the_envelope_reaches_no_server(address: str) -> None:
    async with relay() as at, sending(at) as transport:
        with pytest.raises(BrokenMail) as broken:
            await send(transport, address)
        assert str(broken.value) == ADDRESS_INVALID
    assert at.connections == 0


async def test_an_old_mobile_address_gets_through_a_strict_server() -> None:
    async with relay() as at, sending(at) as transport:
        await send(transport, "a..b@docomo.ne.jp")
    assert at.mails[0][1] in ('"a..b"@docomo.ne.jp', "a..b@docomo.ne.jp")  # aiosmtpd may take the quotes off again


async def test_a_wrong_password_is_our_fault_and_not_the_lead_s() -> None:
    async with relay(password="right") as at:
        async with sending(at, username="me", password="right") as transport:
            await send(transport)
        async with sending(at, username="me", password="wrong") as transport:
            with pytest.raises(RelayUnavailable) as away:
                await send(transport)
            assert away.value.raw.startswith("535")
    assert len(at.mails) == 1


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", str(key), "-out", str(cert), "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_mail_goes_over_tls_and_to_no_server_with_a_strange_certificate(
    tls: str, certificate: tuple[Path, Path]
) -> None:
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(*certificate)
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    async with relay(tls=serving, implicit=tls == "tls") as at:
        async with sending(at, tls=tls, tls_context=trusting) as transport:
            await send(transport)
            await send(transport)
        assert len(at.mails) == 2
        async with sending(at, tls=tls) as transport:
            with pytest.raises(RelayUnavailable):
                await send(transport)
    assert len(at.mails) == 2


async def test_starttls_is_insisted_on() -> None:
    async with relay() as at, sending(at, tls="starttls") as transport:
        with pytest.raises(RelayUnavailable):
            await send(transport)
    assert at.mails == []


async def test_a_goodbye_that_nobody_asked_for_is_no_answer_to_the_next_mail() -> None:
    async with relay() as at, sending(at) as transport:
        await send(transport)
        line = at.lines[0].transport
        assert line is not None
        line.write(b"421 4.4.2 idle too long\r\n")
        await asyncio.sleep(0.05)
        await send(transport)
        assert at.connections == 2
    assert len(at.mails) == 2


@asynccontextmanager
async def by_hand(*answers: bytes) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that greets, announces PIPELINING, and then answers each piece that arrives with the next of these."""
    heard: list[bytes] = []
    over: list[asyncio.Event] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        over.append(asyncio.Event())
        for answer in (b"220 hello\r\n", b"250-hello\r\n250-SIZE 1000\r\n250 PIPELINING\r\n", *answers):
            writer.write(answer)
            if not (piece := await reader.read(65536)):
                break
            heard.append(piece)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        over[-1].set()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], heard
    finally:
        server.close()
        for one in over:
            await one.wait()


async def test_sender_and_recipient_go_in_one_piece_where_the_server_takes_that() -> None:
    answers = (b"250 ok\r\n250-2.1.5 fine\r\n250 go on\r\n", b"354 please\r\n", b"250 taken\r\n")
    async with by_hand(*answers) as (port, heard):
        transport = SmtpTransport("127.0.0.1", port, timeout=2.0)
        assert await send(transport) == (250, "taken")
        await transport.aclose()
    assert heard[1] == b"MAIL FROM:<bounce@example.com>\r\nRCPT TO:<taro@example.jp>\r\n"


@pytest.mark.parametrize(
    ("answers", "raw"),
    [
        ((b"hello?\r\n",), "unreadable answer at MAIL"),
        ((b"250 ok\r\n250 ok\r\n250 and more\r\n",), "lost the connection"),
        ((b"250-" + b"x" * 40_000 + b"\r\n",), "unreadable answer at MAIL"),
        ((b"250 ok\r\n451 4.2.0 later\r\n",), "451 4.2.0 later"),
        ((b"451 4.2.0 later\r\n503 mail first\r\n",), "451 4.2.0 later"),
    ],
)
async def test_servers_that_say_too_much_or_nonsense(answers: tuple[bytes, ...], raw: str) -> None:
    async with by_hand(*answers) as (port, _):
        transport = SmtpTransport("127.0.0.1", port, timeout=0.5)
        with pytest.raises(RelayUnavailable) as away:
            await send(transport)
        assert away.value.raw.startswith(raw)
        assert not away.value.after_data
        await transport.aclose()
