"""A fast local SMTP sink for benchmarks: takes everything, keeps nothing. `python -m bench.sink PORT`."""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop

_END = b"\r\n.\r\n"
_ANSWERS = {b"DATA": b"354 go on\r\n", b"EHLO": b"250-sink\r\n250 PIPELINING\r\n", b"QUIT": b"221 bye\r\n"}


class Sink(asyncio.Protocol):
    """One connection: just enough of RFC 5321, and PIPELINING."""

    def __init__(self) -> None:
        self._buffer, self._in_message = b"", False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)
        self._transport.write(b"220 sink\r\n")

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        answers = []
        while buffer:
            if self._in_message:
                end = buffer.find(_END)
                if end < 0:
                    break
                buffer, self._in_message = buffer[end + len(_END) :], False
                answers.append(b"250 taken\r\n")
                continue
            line, found, rest = buffer.partition(b"\r\n")
            if not found:
                break
            buffer = rest
            verb = line[:4].upper()
            self._in_message = verb == b"DATA"
            answers.append(_ANSWERS.get(verb, b"250 ok\r\n"))
        self._buffer = buffer
        if answers:
            self._transport.write(b"".join(answers))


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", port)
    print("ready", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
