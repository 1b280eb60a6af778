"""A provider's HTTP API that misbehaves to order: a real server, in the test's own loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

HANG = "hang"
DROP = "drop"


@dataclass(frozen=True)
class Posted:
    """A request as it came in."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def key(self) -> str:
        return self.headers["idempotency-key"]


class Api:
    """What the server got and what it is to do.

    `script` gives the answers to come, one a request: an HTTP answer's first line and headers (`503 Service Unavailable`,
    `429 Too Many Requests\\nRetry-After: 7`), `HANG` or `DROP` (the connection ends without an answer); None and an empty list
    mean that it is taken, once a key.
    """

    def __init__(self) -> None:
        self.port = 0
        self.script: list[str | None] = []
        self.posted: list[Posted] = []
        self.taken: dict[str, Posted] = {}
        self.twice: list[str] = []
        """Keys of what was taken before and came again."""
        self.connections = 0
        self._lines: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/messages"

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._lines.add(writer)
        self.connections += 1
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._answer(await self._read(reader), writer):
                    pass
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Posted:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers["content-length"]))
        return Posted(head[0].split()[1], headers, body)

    async def _answer(self, one: Posted, writer: asyncio.StreamWriter) -> bool:
        self.posted.append(one)
        answer = self.script.pop(0) if self.script else None
        if answer == HANG:
            await asyncio.sleep(3600)
        if answer == DROP:
            return False
        if answer is None:
            if one.key in self.taken:
                self.twice.append(one.key)
            self.taken.setdefault(one.key, one)
        first, *more = (answer or "202 Accepted").split("\n")
        body = b"no" if answer else b"queued"
        lines = [f"HTTP/1.1 {first}", f"Content-Length: {len(body)}", *more]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await writer.drain()
        return True

    async def close(self) -> None:
        for line in self._lines:
            line.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def api(port: int = 0) -> AsyncIterator[Api]:
    """A server on a free port, or on that of one that is away; it plays fair until its `script` says otherwise."""
    it = Api()
    server = await asyncio.start_server(it.talk, "127.0.0.1", port)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        server.close()
        await it.close()
