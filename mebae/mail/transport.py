"""Handing messages to the mail server over connections that are kept: 3 to 8 times faster than one connection a mail.

One delivery is MAIL, RCPT, then the caller's last word (`before_data`: the ledger's compare-and-set), then DATA. Every
fault is one of ours, and tells whether the message may have got through all the same:

| what the server does | raised | `after_data` |
| --- | --- | --- |
| cannot be reached, no TLS, no login | `RelayUnavailable` | no |
| 4xx, silence or a dropped line before the message's bytes | `RelayUnavailable` | no |
| 4xx in answer to the message | `RelayUnavailable` | no: it said no |
| silence or a dropped line after the message's first byte | `RelayUnavailable` | yes: nobody knows |
| 5xx to MAIL, RCPT, DATA or the message | `RelayRefused` | |
| 530, 534, 535, 538 (log in first) | `RelayUnavailable` | no: our settings are wrong, not the recipient |

What the server said is in `raw`, for the ledger: it names addresses, so it is in no message and no log.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Literal, NamedTuple, NoReturn, Protocol

import structlog
from aiosmtplib import SMTP, SMTPException, SMTPHeloError, SMTPResponseException, SMTPServerDisconnected

from mebae.errors import MailServerUnavailable, RecipientRefused
from mebae.mail.message import Wire, address_spec
from mebae.mail.smtp_line import LOST, LineBroken, Reply, SmtpLine, taken_over

log = structlog.get_logger()

IDLE_SECONDS = 60.0
"""A connection unused for longer is not trusted: servers and firewalls forget it without a word."""
_RSET_SECONDS = 5.0
_LOGIN_FIRST = (530, 534, 535, 538)
_RAW_LIMIT = 2_000


class RelayUnavailable(MailServerUnavailable):
    """Try again later. The message is the code; `raw` is for the ledger."""

    def __init__(self, raw: str, *, after_data: bool = False, retry_after: timedelta | None = None) -> None:
        super().__init__()
        self.raw = raw[:_RAW_LIMIT]
        self.after_data = after_data
        """Bytes of the message had gone out and no answer came: it may have been taken or not."""
        self.retry_after = retry_after
        """How long it asked to be left alone (machine time)."""


class RelayRefused(RecipientRefused):
    """Never try again. The message is the code; `raw` is for the ledger."""

    def __init__(self, raw: str) -> None:
        super().__init__()
        self.raw = raw[:_RAW_LIMIT]


class Receipt(NamedTuple):
    """The server's answer to a message that it took."""

    code: int
    text: str


class Transport(Protocol):
    """What sends mail."""

    async def deliver(
        self, envelope_from: str, to: str, message: bytes, *, before_data: Callable[[], Awaitable[None]]
    ) -> Receipt:
        """Hands one message over. `before_data` is awaited right before its first byte, with SMTP after the recipient was
        accepted; if it raises, no mail goes.

        Raises `RelayUnavailable`, `RelayRefused`, `BrokenMail` (an impossible address), and what `before_data` raises.
        """
        ...

    async def aclose(self) -> None:
        """Closes what is open."""
        ...


class SmtpTransport:
    """A pool of connections to one mail server.

    Args:
        tls: `starttls` insists on it: a server without it is unavailable, never talked to in the clear.
        connections: how many deliveries run at once; a server that hangs holds no more than these.
        timeout: seconds for each exchange with the server, and for getting a connection; a delivery ends within about
            six of them, plus what `before_data` takes.
        helo: the name to greet with; the machine's own by default.
        tls_context: for a private certificate authority.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: Literal["none", "starttls", "tls"] = "none",
        username: str | None = None,
        password: str | None = None,
        connections: int = 4,
        timeout: float = 30.0,
        helo: str = "",
        tls_context: ssl.SSLContext | None = None,
    ) -> None:
        self.host, self.port, self.tls, self.timeout = host, port, tls, timeout
        self._username, self._password = username, password
        self._helo, self._tls_context = helo, tls_context
        self._slots = asyncio.Semaphore(connections)
        self._idle: list[tuple[SmtpLine, float]] = []
        self._closed = False

    async def deliver(
        self, envelope_from: str, to: str, message: bytes, *, before_data: Callable[[], Awaitable[None]]
    ) -> Receipt:
        """See `Transport.deliver`.

        Raises `RelayUnavailable`, `RelayRefused`, `BrokenMail` (impossible address), and what `before_data` raises.
        """
        sender, recipient = address_spec(envelope_from), address_spec(to)
        body = _stuffed(message)
        if self._slots.locked():
            try:
                async with asyncio.timeout(2 * self.timeout):
                    await self._slots.acquire()
            except TimeoutError:
                raise RelayUnavailable("every connection to the mail server was busy") from None
        else:
            await self._slots.acquire()  # at once
        try:
            line = await self._addressed(f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>")
            clean = False
            try:
                await before_data()
                receipt = await self._data(line, body)
                clean = True
                return receipt
            except (RelayRefused, RelayUnavailable) as fault:
                clean = await self._after(line, fault)
                raise
            except Exception:  # the caller's own no: withdraw the envelope and keep the line
                clean = await self._reset(line)
                raise
            finally:
                self._put_back(line, clean)
        finally:
            self._slots.release()

    async def aclose(self) -> None:
        """Says goodbye on idle connections; the others close when their delivery ends."""
        self._closed = True
        idle, self._idle = self._idle, []
        await asyncio.gather(*(self._quit(line) for line, _ in idle))

    async def _addressed(self, mail: str, rcpt: str) -> SmtpLine:
        """A connection on which sender and recipient were accepted. One that died in the pool is replaced once, without a word."""
        while self._idle:
            line, since = self._idle.pop()
            if not line.is_open or time.monotonic() - since > IDLE_SECONDS:
                line.close()
                continue
            try:
                await self._address(line, mail, rcpt)
                return line
            except _Gone:
                break
        line = await self._connected()
        try:
            await self._address(line, mail, rcpt)
        except _Gone as gone:
            raise RelayUnavailable(gone.raw) from None
        return line

    async def _address(self, line: SmtpLine, mail: str, rcpt: str) -> None:
        """Sender and recipient, in one go if the server takes them so. The line is put back or closed if that fails."""
        try:
            if line.pipelining:
                # A recipient of a refused sender is refused too, and that is no news.
                said = await self._say(line, f"{mail}\r\n{rcpt}\r\n", "MAIL", "RCPT")
                _expect(said[0], at="MAIL")
                _expect(said[1], at="RCPT")
                return
            for words, at in ((mail, "MAIL"), (rcpt, "RCPT")):
                [reply] = await self._say(line, f"{words}\r\n", at)
                _expect(reply, at=at)
        except (RelayRefused, RelayUnavailable) as fault:
            self._put_back(line, await self._after(line, fault))
            raise
        except BaseException:
            line.close()
            raise

    async def _connected(self) -> SmtpLine:
        client = SMTP(
            hostname=self.host, port=self.port, timeout=self.timeout, local_hostname=await self._greeting(),
            use_tls=self.tls == "tls", start_tls=self.tls == "starttls", tls_context=await self._trust(),
            username=self._username, password=self._password,
        )  # fmt: skip
        try:
            async with asyncio.timeout(2 * self.timeout):
                await client.connect()
                if client.is_ehlo_or_helo_needed:
                    try:
                        await client.ehlo()
                    except SMTPHeloError:
                        await client.helo()
            if client.transport is None or not client.is_connected:
                raise SMTPServerDisconnected("gone after the greeting")
        except BaseException as error:
            client.close()
            if isinstance(error, SMTPResponseException):
                raise RelayUnavailable(f"{error.code} {error.message}") from None
            if isinstance(error, TimeoutError):
                raise RelayUnavailable("timed out connecting") from None
            if isinstance(error, SMTPException | OSError | ValueError):
                raise RelayUnavailable(f"cannot connect: {error}") from None
            raise
        return taken_over(client.transport, pipelining=client.supports_extension("pipelining"))

    async def _trust(self) -> ssl.SSLContext | None:
        """Made once: reading the system's authorities takes a while."""
        if self._tls_context is None and self.tls != "none":
            self._tls_context = await asyncio.to_thread(ssl.create_default_context)
        return self._tls_context

    async def _greeting(self) -> str:
        if not self._helo:
            if self.host in ("localhost", "127.0.0.1", "::1"):
                self._helo = "localhost"
            else:
                with suppress(TimeoutError, OSError):
                    async with asyncio.timeout(2):
                        self._helo = await asyncio.to_thread(socket.getfqdn)
                self._helo = self._helo if re.fullmatch(r"[A-Za-z0-9.-]+", self._helo) else "localhost"
        return self._helo

    async def _say(self, line: SmtpLine, words: str, *at: str) -> list[Reply]:
        """Words before the message's bytes, one reply for each name in `at`."""
        try:
            return await line.say(words.encode("ascii"), replies=len(at), within=self.timeout)
        except LineBroken as broken:
            for reply, where in zip(broken.replies, at, strict=False):
                _expect(reply, at=where)
            where = at[len(broken.replies)]
            raw = f"{broken} at {where}"
            raise (_Gone(raw) if where == "MAIL" and str(broken) == LOST else RelayUnavailable(raw)) from None

    async def _data(self, line: SmtpLine, body: bytes) -> Receipt:
        [may] = await self._say(line, "DATA\r\n", "DATA")
        _expect(may, at="DATA")
        if not line.is_open:
            raise RelayUnavailable(f"{LOST} at DATA")
        # From here on silence is no answer: the server may have the message.
        try:
            [reply] = await line.say(body, replies=1, within=self.timeout)
        except LineBroken as broken:
            raise RelayUnavailable(f"{broken} after the message", after_data=True) from None
        if not 200 <= reply.code < 300:
            _refuse(reply, after_data=not 400 <= reply.code < 600)
        return Receipt(reply.code, reply.text)

    async def _after(self, line: SmtpLine, fault: RelayRefused | RelayUnavailable) -> bool:
        """Whether a line may be used again. A definite no leaves it in order, but for 421, which announces its end."""
        return fault.raw[:1] in ("4", "5") and not fault.raw.startswith("421") and await self._reset(line)

    async def _reset(self, line: SmtpLine) -> bool:
        try:
            [reply] = await line.say(b"RSET\r\n", replies=1, within=min(self.timeout, _RSET_SECONDS))
        except LineBroken:
            return False
        return reply.code == 250

    def _put_back(self, line: SmtpLine, clean: bool) -> None:
        if clean and line.is_open and not self._closed:
            self._idle.append((line, time.monotonic()))
        else:
            line.close()

    async def _quit(self, line: SmtpLine) -> None:
        with suppress(LineBroken):
            await line.say(b"QUIT\r\n", replies=1, within=min(self.timeout, _RSET_SECONDS))
        line.close()


class _Gone(Exception):
    """The connection ended before anything was said on it: another one may do."""

    def __init__(self, raw: str) -> None:
        self.raw = raw


_FINE = {"MAIL": (250,), "RCPT": (250, 251, 252), "DATA": (354,)}


def _expect(reply: Reply, *, at: str) -> None:
    if reply.code == 421 and at == "MAIL":
        raise _Gone(str(reply))
    if reply.code not in _FINE[at]:
        _refuse(reply)


def _refuse(reply: Reply, *, after_data: bool = False) -> NoReturn:
    if 500 <= reply.code < 600 and reply.code not in _LOGIN_FIRST:
        raise RelayRefused(str(reply))
    raise RelayUnavailable(str(reply), after_data=after_data)


def _stuffed(message: bytes) -> bytes:
    """The message as DATA wants it: CRLF everywhere, leading dots doubled, the final dot."""
    if isinstance(message, Wire):
        return message + b".\r\n"
    ends = message.count(b"\r\n")
    if not ends == message.count(b"\n") == message.count(b"\r"):
        message = re.sub(rb"\r\n|\r|\n", b"\r\n", message)
    if not message.endswith(b"\r\n"):
        message += b"\r\n"
    if message.startswith(b"."):
        message = b"." + message
    return message.replace(b"\r\n.", b"\r\n..") + b".\r\n"


async def look_for_mail_server(host: str, port: int) -> None:
    """Says so early when the mail server is away; mails then wait in the ledger."""
    try:
        async with asyncio.timeout(5):
            _, writer = await asyncio.open_connection(host, port)
        writer.close()
    except (OSError, TimeoutError):
        log.warning(
            "mail_server.away",
            address=f"{host}:{port}",
            cure="start it, or set MEBAE_SMTP_HOST and MEBAE_SMTP_PORT, or MEBAE_MAIL_API_URL; mails wait, and none is lost",
        )
