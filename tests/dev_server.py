"""A Temporal dev server of a test's own, with its database in a file, that can be killed and started again on the same port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError

from mebae.temporal import dev_server_command


class ServerGone(Exception):
    """The server's process ended by itself."""


class DevServer:
    """One server: a file and a port that stay, and processes that come and go."""

    def __init__(self, folder: Path) -> None:
        self._choose_ports()
        self._file = folder / "temporal.db"
        self._process: asyncio.subprocess.Process | None = None
        self._settled = False

    def _choose_ports(self) -> None:
        self.port, self._ui_port = free_ports(2)
        self.address = f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Starts it and waits until it answers. Whoever took a port of the first start meanwhile may have it."""
        while True:
            command = dev_server_command(port=self.port, ui_port=self._ui_port, file=self._file)
            self._process = await asyncio.create_subprocess_exec(
                *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
            )
            try:
                await self.connect()
            except ServerGone:
                if self._settled:
                    raise
                self._choose_ports()
                continue
            self._settled = True
            return

    async def kill(self) -> None:
        """`kill -9`."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def connect(self) -> Client:
        async with asyncio.timeout(30):
            while True:
                if self._process is not None and self._process.returncode is not None:
                    raise ServerGone(f"it ended with {self._process.returncode}")
                try:
                    client = await Client.connect(self.address, data_converter=pydantic_data_converter)
                    await client.count_workflows()
                    return client
                except (RPCError, RuntimeError):  # the SDK's word for "nobody there" is RuntimeError
                    await asyncio.sleep(0.1)


@asynccontextmanager
async def dev_server(folder: Path) -> AsyncIterator[DevServer]:
    server = DevServer(folder)
    try:
        await server.start()
        yield server
    finally:
        await server.kill()


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports
