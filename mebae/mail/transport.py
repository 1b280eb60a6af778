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
from typing import Literal, NamedTuple, NoReturn, Protocol

import structlog
from aiosmtplib import SMTP, SMTPException, SMTPHeloError, SMTPResponseException, SMTPServerDisconnected

from mebae.errors import MailServerUnavailable, RecipientRefused
from mebae.mail.message import address_spec

log = structlog.get_logger()

IDLE_SECONDS = 60.0
"""A connection unused for longer is not trusted: servers and firewalls forget it without a word."""
_RSET_SECONDS = 5.0
_LOGIN_FIRST = (530, 534, 535, 538)
_RAW_LIMIT = 2_000


class RelayUnavailable(MailServerUnavailable):
    """Try again later. The message is the code; `raw` is for the ledger."""

    def __init__(self, raw: str, *, after_data: bool = False) -> None:
        super().__init__()
        self.raw = raw[:_RAW_LIMIT]
        self.after_data = after_data
        """Bytes of the message had gone out and no answer came: it may have been taken or not."""


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
        """Hands one message over. `before_data` is awaited when the recipient is accepted; if it raises, no mail goes."""
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
        self._idle: list[tuple[SMTP, float]] = []
        self._closed = False

    async def deliver(
        self, envelope_from: str, to: str, message: bytes, *, before_data: Callable[[], Awaitable[None]]
    ) -> Receipt:
        """See `Transport.deliver`.

        Raises `RelayUnavailable`, `RelayRefused`, `BrokenMail` (impossible address), and what `before_data` raises.
        """
        sender, recipient = address_spec(envelope_from), address_spec(to)
        body = _stuffed(message)
        try:
            async with asyncio.timeout(2 * self.timeout):
                await self._slots.acquire()
        except TimeoutError:
            raise RelayUnavailable("every connection to the mail server was busy") from None
        try:
            client = await self._opened(sender)
            clean = False
            try:
                await self._exchange(client, "RCPT", f"TO:<{recipient}>", ok=(250, 251, 252))
                await before_data()
                receipt = await self._data(client, body)
                clean = True
                return receipt
            except (RelayRefused, RelayUnavailable) as fault:
                # A definite no leaves the connection in order, but for 421, which announces its end.
                clean = fault.raw[:1] in "45" and not fault.raw.startswith("421") and await self._reset(client)
                raise
            except Exception:  # the caller's own no: withdraw the envelope and keep the line
                clean = await self._reset(client)
                raise
            finally:
                self._put_back(client, clean)
        finally:
            self._slots.release()

    async def aclose(self) -> None:
        """Says goodbye on idle connections; the others close when their delivery ends."""
        self._closed = True
        idle, self._idle = self._idle, []
        await asyncio.gather(*(self._quit(client) for client, _ in idle))

    async def _opened(self, sender: str) -> SMTP:
        """A connection on which MAIL was accepted. One that died in the pool is replaced once, without a word."""
        while self._idle:
            client, since = self._idle.pop()
            if not client.is_connected or time.monotonic() - since > IDLE_SECONDS:
                client.close()
                continue
            try:
                await self._mail(client, sender)
                return client
            except RelayUnavailable as fault:
                client.close()
                if not fault.raw.startswith(("421", "lost")):
                    raise
                break
            except BaseException:
                client.close()
                raise
        client = await self._connected()
        try:
            await self._mail(client, sender)
        except BaseException:
            client.close()
            raise
        return client

    async def _mail(self, client: SMTP, sender: str) -> None:
        await self._exchange(client, "MAIL", f"FROM:<{sender}>", ok=(250,))

    async def _connected(self) -> SMTP:
        client = SMTP(
            hostname=self.host, port=self.port, timeout=self.timeout, local_hostname=await self._greeting(),
            use_tls=self.tls == "tls", start_tls=self.tls == "starttls", tls_context=self._tls_context,
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
        except BaseException as error:
            client.close()
            if isinstance(error, SMTPResponseException):
                raise RelayUnavailable(f"{error.code} {error.message}") from None
            if isinstance(error, TimeoutError):
                raise RelayUnavailable("timed out connecting") from None
            if isinstance(error, SMTPException | OSError | ValueError):
                raise RelayUnavailable(f"cannot connect: {error}") from None
            raise
        return client

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

    async def _exchange(self, client: SMTP, *command: str, ok: tuple[int, ...]) -> Receipt:
        verb = command[0]
        try:
            reply = await client.execute_command(*(part.encode("ascii") for part in command), timeout=self.timeout)
        except SMTPServerDisconnected:
            raise RelayUnavailable(f"lost the connection at {verb}") from None
        except TimeoutError:
            raise RelayUnavailable(f"timed out at {verb}") from None
        except SMTPResponseException as error:
            raise RelayUnavailable(f"unreadable answer to {verb}: {error.message}") from None
        except (SMTPException, OSError) as error:
            raise RelayUnavailable(f"lost the connection at {verb}: {error}") from None
        if reply.code not in ok:
            _refuse(reply.code, reply.message)
        return Receipt(reply.code, reply.message)

    async def _data(self, client: SMTP, body: bytes) -> Receipt:
        await self._exchange(client, "DATA", ok=(354,))
        # From here on silence is no answer: the server may have the message.
        protocol = client.protocol
        if protocol is None:
            raise RelayUnavailable("lost the connection at DATA")
        try:
            protocol.write(body)
            reply = await protocol.read_response(timeout=self.timeout)
        except TimeoutError:
            raise RelayUnavailable("timed out after the message", after_data=True) from None
        except SMTPResponseException as error:
            raise RelayUnavailable(f"unreadable answer to the message: {error.message}", after_data=True) from None
        except (SMTPException, OSError) as error:
            raise RelayUnavailable(f"lost the connection after the message: {error}", after_data=True) from None
        if not 200 <= reply.code < 300:
            _refuse(reply.code, reply.message, after_data=not 400 <= reply.code < 600)
        return Receipt(reply.code, reply.message)

    async def _reset(self, client: SMTP) -> bool:
        try:
            await client.rset(timeout=min(self.timeout, _RSET_SECONDS))
        except (SMTPException, OSError):
            return False
        return True

    def _put_back(self, client: SMTP, clean: bool) -> None:
        if clean and client.is_connected and not self._closed:
            self._idle.append((client, time.monotonic()))
        else:
            client.close()

    async def _quit(self, client: SMTP) -> None:
        with suppress(SMTPException, OSError):
            await client.quit(timeout=min(self.timeout, _RSET_SECONDS))
        client.close()


def _refuse(code: int, message: str, *, after_data: bool = False) -> NoReturn:
    raw = f"{code} {message}".strip()
    if 500 <= code < 600 and code not in _LOGIN_FIRST:
        raise RelayRefused(raw)
    raise RelayUnavailable(raw, after_data=after_data)


def _stuffed(message: bytes) -> bytes:
    """The message as DATA wants it: CRLF everywhere, leading dots doubled, the final dot."""
    lines = re.sub(rb"\r\n|\r|\n", b"\r\n", message)
    if not lines.endswith(b"\r\n"):
        lines += b"\r\n"
    return re.sub(rb"(?m)^\.", b"..", lines) + b".\r\n"


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
            cure="start it or set MEBAE_SMTP_HOST and MEBAE_SMTP_PORT; mails wait and are tried again, none is lost",
        )
