"""Mail servers that misbehave to order: real aiosmtpd, in the test's own loop."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

HANG = "hang"
DROP = "drop"
OFFERS: list[str] = []
"""What every relay announces; a test that concerns all servers sets it."""


class Relay:
    """What the server did and what it is to do.

    `script` gives, for `CONNECT`, `MAIL`, `RCPT`, `DATA` (the command), `BODY` (after the final dot) and `RSET`, the answers
    to come, one each time: a reply, `HANG` or `DROP`; None and an empty list mean "fine".
    """

    def __init__(self) -> None:
        self.port = 0
        self.script: dict[str, list[str | None]] = {}
        self.connections = 0
        self.log: list[str] = []
        self.mails: list[tuple[str, str, bytes]] = []
        self.lines: list[_Line] = []
        self.offers: list[str] = []
        """Extensions that it announces beyond those that aiosmtpd does, such as PIPELINING."""
        self.delay = 0.0
        """Seconds before each answer to a message."""
        self.cut_body = False
        """Drop the line in the middle of the message's bytes."""

    def next(self, moment: str) -> str | None:
        self.log.append(moment)
        answers = self.script.get(moment)
        return answers.pop(0) if answers else None

    def drop_all(self) -> None:
        for line in self.lines:
            if line.transport is not None:
                line.transport.close()


class _Line(SMTP):
    def __init__(self, relay: Relay, **more: Any) -> None:
        super().__init__(relay, hostname="relay.invalid", **more)
        self.relay = relay

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.relay.connections += 1
        self.relay.lines.append(self)

    async def push(self, status: Any) -> None:
        if isinstance(status, str) and status.startswith("220 relay.invalid"):
            status = self.relay.next("CONNECT") or status
        elif isinstance(status, str) and status.startswith("354"):
            status = self.relay.next("DATA") or status
            if not status.startswith("354"):
                raise _Stop(status)
        if status == HANG:
            await asyncio.sleep(3600)
        if status == DROP:
            assert self.transport is not None
            self.transport.close()
            return
        if isinstance(status, str) and not status.isascii():  # bytes of another charset, by surrogateescape
            await super().push(status.encode("utf-8", "surrogateescape"))
            return
        await super().push(status)
        if isinstance(status, str) and status.startswith("354") and self.relay.cut_body:
            await self._reader.readexactly(100)
            assert self.transport is not None
            assert self._handler_coroutine is not None
            self.transport.close()
            self._handler_coroutine.cancel()
            await asyncio.sleep(0)

    async def smtp_RSET(self, arg: str) -> None:
        answer = self.relay.next("RSET")
        await (self.push(answer) if answer else super().smtp_RSET(arg))

    async def answered(self, moment: str, fine: str) -> str:
        answer = self.relay.next(moment)
        if answer == HANG:
            await asyncio.sleep(3600)
        if answer == DROP:
            assert self.transport is not None
            self.transport.close()
            return "451 gone"
        return answer or fine


class _Stop(Exception):
    """DATA was not opened: leaves aiosmtpd's own reading of the message."""


class _Handler:
    def __init__(self, relay: Relay) -> None:
        self.relay = relay

    async def handle_EHLO(
        self, _server: _Line, session: Session, _envelope: Envelope, host: str, responses: list[str]
    ) -> list[str]:
        session.host_name = host
        return [responses[0], *(f"250-{offer}" for offer in self.relay.offers), *responses[1:]]

    async def handle_MAIL(
        self, server: _Line, _session: Session, envelope: Envelope, address: str, _options: Any
    ) -> str:
        answer = await server.answered("MAIL", "250 ok")
        if answer.startswith("250"):
            envelope.mail_from = address
        return answer

    async def handle_RCPT(
        self, server: _Line, _session: Session, envelope: Envelope, address: str, _options: Any
    ) -> str:
        answer = await server.answered("RCPT", "250 ok")
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: _Line, _session: Session, envelope: Envelope) -> str:
        await asyncio.sleep(self.relay.delay)
        answer = await server.answered("BODY", "250 taken")
        if answer.startswith("250"):
            content = envelope.original_content or b""
            self.relay.mails.append((str(envelope.mail_from), str(envelope.rcpt_tos[0]), content))
        return answer

    async def handle_exception(self, error: Exception) -> str:
        if isinstance(error, _Stop):
            return str(error)
        return "451 test server failed"


@asynccontextmanager
async def relay(
    *, tls: ssl.SSLContext | None = None, implicit: bool = False, password: str | None = None
) -> AsyncIterator[Relay]:
    """A server on a free port; it plays fair until its `script` says otherwise."""
    it = Relay()
    it.offers = list(OFFERS)
    loop = asyncio.get_running_loop()

    def authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=data.password == (password or "").encode(), handled=False)

    def line() -> _Line:
        made = _Line(
            it, loop=loop, tls_context=None if implicit else tls, require_starttls=bool(tls and not implicit),
            authenticator=authenticate if password else None, auth_require_tls=False,
        )  # fmt: skip
        made.event_handler = _Handler(it)
        made._handle_hooks = {
            name[7:]: getattr(made.event_handler, name)
            for name in dir(made.event_handler)
            if name.startswith("handle_")
        }
        return made

    server = await loop.create_server(line, "127.0.0.1", 0, ssl=tls if implicit else None)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        server.close()
        for open_line in it.lines:
            if open_line._handler_coroutine is not None:
                open_line._handler_coroutine.cancel()
        it.drop_all()
        await asyncio.sleep(0.01)
