"""An open connection to a mail server: words out, replies in, several words at once where the server offers it (RFC 2920).

aiosmtplib opens a connection: TLS, EHLO, login. Then this takes it over for the mails, since aiosmtplib knows one command at
a time and would lose the second reply of two that come together.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple, cast

from mebae.errors import MebaeError

LOST = "lost the connection"
_LONGEST = 32 * 1024
"""Bytes of a reply, all of its lines together: a server that talks without end is no mail server."""


class Reply(NamedTuple):
    """A server's answer, its lines joined."""

    code: int
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.text}".strip()


class LineBroken(MebaeError):
    """The connection is of no use any more."""

    def __init__(self, how: str, replies: list[Reply]) -> None:
        super().__init__(how)
        self.replies = replies
        """Those that had come."""


class SmtpLine(asyncio.Protocol):
    """Takes over an open transport on which no answer is awaited.

    Args:
        pipelining: whether the server takes several commands at once.
    """

    def __init__(self, transport: asyncio.Transport, *, pipelining: bool) -> None:
        self.pipelining = pipelining
        self._transport = transport
        self._broken: str | None = None
        self._buffer = bytearray()
        self._replies: list[Reply] = []
        self._lines: list[str] = []
        """Of the reply that is under way."""
        self._wanted = 0
        self._waiter: asyncio.Future[None] | None = None
        transport.set_protocol(self)

    @property
    def is_open(self) -> bool:
        return self._broken is None and not self._transport.is_closing()

    async def say(self, words: bytes, *, replies: int, within: float) -> list[Reply]:
        """Writes, and waits for so many replies. Raises `LineBroken`: after it the line is closed.

        A line is for one speaker at a time. `within`: seconds for all of it.
        """
        if not self.is_open:
            raise LineBroken(self._broken or LOST, [])
        self._replies, self._wanted = [], replies
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        overdue = loop.call_later(within, self._break, "timed out")
        try:
            self._transport.write(words)
            await self._waiter
        except BaseException:  # cancelled: nobody knows what the server will still say
            self._break("given up")
            raise
        finally:
            overdue.cancel()
            self._waiter, self._wanted = None, 0
        if len(self._replies) < replies:
            raise LineBroken(self._broken or LOST, self._replies)
        return self._replies

    def close(self) -> None:
        self._break("closed")

    # What the event loop says ------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\n")) >= 0 and self._broken is None:
            line = bytes(self._buffer[:end]).rstrip(b"\r")
            del self._buffer[: end + 1]
            self._read(line)
        if len(self._buffer) + sum(map(len, self._lines)) > _LONGEST:
            self._break("unreadable answer")

    def eof_received(self) -> bool:
        self._break(LOST)
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._break(LOST)

    def _read(self, line: bytes) -> None:
        code = line[:3]
        if not code.isdigit() or line[3:4] not in (b"", b" ", b"-"):
            self._break("unreadable answer")
            return
        self._lines.append(line[4:].decode("utf-8", "replace").strip())
        if line[3:4] == b"-":
            return
        reply, self._lines = Reply(int(code), "\n".join(self._lines)), []
        if len(self._replies) >= self._wanted or self._waiter is None:
            # Unasked: a server that says goodbye (421), or one whose answers we would pair with the wrong words.
            self._break(LOST)
            return
        self._replies.append(reply)
        if len(self._replies) == self._wanted and not self._waiter.done():
            self._waiter.set_result(None)

    def _break(self, how: str) -> None:
        if self._broken is None:
            self._broken = how
        self._transport.close()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def taken_over(transport: asyncio.BaseTransport, *, pipelining: bool) -> SmtpLine:
    """The line of a transport that aiosmtplib opened."""
    return SmtpLine(cast(asyncio.Transport, transport), pipelining=pipelining)
