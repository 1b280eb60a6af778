"""A real HTTP server on this machine that takes what a CRM takes: it checks each request, remembers it, and can be away.

Each adapter's double is a `Site` with the published shape of its API: paths, credentials, JSON, limits and errors. A request that does
not fit is a failed test, and is answered as the real one would.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Asked:
    """A request."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Said:
    """An answer. `after_taking`: the line is cut instead, when everything has been done."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


class Wrong(AssertionError):
    """A request that the API does not have."""


class Site:
    """Answers requests by `answer`, one after the other."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[Asked] = []
        self.wrong: list[str] = []
        self.away: Said | None = None
        """What is said instead while it is away, without anything being done."""
        self.cuts: int = 0
        """So many answers get lost after everything was done."""
        self.open: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(self, asked: Asked) -> Said:
        return Said()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, which ends with the site."""
        task = asyncio.current_task()
        assert task is not None
        self.open.add(task)
        try:
            await self.serve(reader, writer)
        except asyncio.CancelledError:
            pass
        finally:
            self.open.discard(task)
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                asked = await _read(reader)
                if asked is None:
                    return
                self.asked.append(asked)
                said = self.away or self._answered(asked)
                if self.away is None and self.cuts:
                    self.cuts -= 1
                    return
                writer.write(_written(said))
                await writer.drain()
        except ConnectionError:
            pass

    def _answered(self, asked: Asked) -> Said:
        try:
            return self.answer(asked)
        except Wrong as wrong:
            self.wrong.append(str(wrong))
            return Said(400, {"message": str(wrong)})


S = TypeVar("S", bound=Site)


@asynccontextmanager
async def running(site: S) -> AsyncIterator[S]:
    """The site, on a free port; at the end no request may have been wrong."""
    server = await asyncio.start_server(site.take, "127.0.0.1", 0)
    site.port = server.sockets[0].getsockname()[1]
    try:
        yield site
    finally:
        server.close()
        await server.wait_closed()
        while site.open:
            for task in list(site.open):
                task.cancel()
            await asyncio.sleep(0)
    assert site.wrong == []


def must(true: object, what: str) -> None:
    """Raises `Wrong` for a request that is not as the API has it."""
    if not true:
        raise Wrong(what)


async def _read(reader: asyncio.StreamReader) -> Asked | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    except asyncio.IncompleteReadError:
        return None
    method, target, _ = head[0].split(" ")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    parts = urlsplit(target)
    return Asked(method, parts.path, dict(parse_qsl(parts.query, keep_blank_values=True)), headers, body)


def _written(said: Said) -> bytes:
    body = b"" if said.body is None else said.body if isinstance(said.body, bytes) else json.dumps(said.body).encode()
    lines = [f"HTTP/1.1 {said.status} X", f"Content-Length: {len(body)}", *(f"{k}: {v}" for k, v in said.headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body
