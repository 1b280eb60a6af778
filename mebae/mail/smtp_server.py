"""An SMTP server in a thread of its own, whatever it does with what it takes: the inbox of development, the return addresses."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import weakref
from typing import Any, Self

from aiosmtpd.smtp import SMTP

from mebae.errors import BadInput


class SmtpServer:
    """Listens from `start` to `stop`; also a context manager.

    Args:
        handler: with the hooks of aiosmtpd (`handle_RCPT`, `handle_DATA`…). They run in the thread's own event loop.
        what: the server's name in errors, with what to set where its port is taken.
        port: 0 takes a free one; `port` then tells which.
        hostname: what it greets with.
        largest: bytes of a mail; more are answered 552.
        lines: connections at once; more are answered 421.
        patience: seconds in which a client must say something.
    """

    def __init__(
        self,
        handler: Any,
        *,
        what: str,
        cure: str,
        host: str = "127.0.0.1",
        port: int = 0,
        hostname: str,
        largest: int,
        lines: int = 500,
        patience: float = 300.0,
    ) -> None:
        self.host, self.port = host, port
        self._handler, self._what, self._cure = handler, what, cure
        self._hostname, self._largest, self._lines, self._patience = hostname, largest, lines, patience
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listens from now on. Raises `BadInput` when the port is taken."""
        # aiosmtpd logs addresses at every command, and of a failure the whole session.
        logging.getLogger("mail.log").setLevel(logging.CRITICAL)
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            listening = socket.create_server((self.host, self.port), family=family, backlog=256)
        except OSError as error:
            raise BadInput(
                f"{self._what}: cannot listen on {self.host}:{self.port} ({error.strerror}); {self._cure}"
            ) from None
        self.port = listening.getsockname()[1]
        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(listening, ready)), name=self._what, daemon=True
        )
        self._thread.start()
        ready.wait()

    def stop(self) -> None:
        """Stops listening and drops open connections. May be called twice."""
        thread, self._thread = self._thread, None
        if thread is not None and self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def _serve(self, listening: socket.socket, ready: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        lines: weakref.WeakSet[SMTP] = weakref.WeakSet()

        def answer() -> asyncio.Protocol:
            if sum(line.transport is not None and not line.transport.is_closing() for line in lines) >= self._lines:
                return _Busy()
            line = _Line(
                self._handler, hostname=self._hostname, enable_SMTPUTF8=True, data_size_limit=self._largest,
                timeout=self._patience, loop=self._loop,
            )  # fmt: skip
            lines.add(line)
            protocol: asyncio.Protocol = line
            return protocol

        server = await self._loop.create_server(answer, sock=listening)
        ready.set()
        await self._stop.wait()
        server.close()
        for line in list(lines):
            if line.transport is not None:
                line.transport.close()
        await asyncio.sleep(0)


class _Line(SMTP):
    """Takes lines longer than RFC 5321 allows (1,000 octets): a report is no less true for its long lines."""

    line_length_limit = 64 * 1024


class _Busy(asyncio.Protocol):
    """One connection too many: its server comes again by itself."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"421 4.3.2 Too many connections; come again later\r\n")
        transport.close()
