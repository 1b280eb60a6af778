"""Child processes under one roof: started in order, watched, ended in the reverse order, and never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from mebae.errors import MebaeError
from mebae.private import CHILDREN, private_file, private_folder

PATIENCE = 60.0
"""Seconds that a child may take until it is ready; a loaded machine is slow."""
GRACE = 15.0
"""Seconds that a child gets to end by itself."""
TAIL = 20
"""Lines of a log that are shown when its child dies."""


class ChildDied(MebaeError):
    """A child process ended by itself. The message holds the end of its log."""


class Child:
    """One child process, with its log and a way to tell that it is ready."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        folder: Path,
        log: Path,
        environment: Mapping[str, str],
        ready: Callable[[], Awaitable[bool]],
    ) -> None:
        self.name, self.command, self.folder, self.log = name, list(command), folder, log
        self.environment, self._ready = dict(environment), ready
        self.process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    async def start(self) -> None:
        """Starts it and waits until it is ready."""
        private_folder(self.log.parent)
        private_file(self.log)
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.command,
                cwd=self.folder,
                env=self.environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A session of its own: Ctrl-C reaches us alone, and we end the children in the right order.
                start_new_session=True,
                umask=CHILDREN,
                preexec_fn=_dying_with_parent() if sys.platform == "linux" else None,
            )
        ended = asyncio.create_task(self.process.wait())
        try:
            async with asyncio.timeout(PATIENCE):
                while not await self._ready():
                    if ended.done():
                        raise self.died()
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise ChildDied(f"{self.name} was not ready after {PATIENCE:.0f} seconds{self.tail()}") from None
        finally:
            ended.cancel()

    async def stop(self) -> None:
        """Asks it to end, waits, and ends it."""
        if self.process is None or self.process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), GRACE)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()

    def died(self) -> ChildDied:
        """What to say when it ended by itself."""
        code = self.process.returncode if self.process is not None else None
        how = f"killed by signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return ChildDied(f"{self.name} ended by itself ({how}){self.tail()}")

    def tail(self) -> str:
        """The end of its log, where it has one."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()[-TAIL:]
        except OSError:
            return ""
        if not lines:
            return f"; its log {self.log} is empty"
        return f"; the end of {self.log}:\n" + "\n".join(f"  {line}" for line in lines)


class Supervisor:
    """Children, started one after the other. Use it as a context: on leaving, they end in the reverse order."""

    def __init__(self) -> None:
        self.children: list[Child] = []

    async def __aenter__(self) -> Supervisor:
        return self

    async def __aexit__(self, *_: object) -> None:
        for child in reversed(self.children):
            await asyncio.shield(child.stop())

    async def add(self, child: Child) -> None:
        self.children.append(child)
        await child.start()

    async def watch(self) -> None:
        """Runs until a child ends by itself, which raises `ChildDied`."""
        waiting = {asyncio.create_task(child.process.wait()): child for child in self.children if child.process is not None}
        try:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            raise waiting[done.pop()].died()
        finally:
            for task in waiting:
                task.cancel()


def file_is_there(path: Path) -> Callable[[], Awaitable[bool]]:
    """Ready when this file is there; an old one is removed."""
    path.unlink(missing_ok=True)

    async def look() -> bool:
        return path.exists()  # noqa: ASYNC240 - one stat

    return look


def port_answers(host: str, port: int) -> Callable[[], Awaitable[bool]]:
    """Ready when somebody listens there."""

    async def look() -> bool:
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            return False
        writer.close()
        return True

    return look


def _dying_with_parent() -> Callable[[], None]:
    """To be run in the child before it becomes its program: it is told to end when we are gone, also by `kill -9`."""
    libc, parent, PR_SET_PDEATHSIG = ctypes.CDLL(None), os.getpid(), 1

    def prepare() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # we were gone before that
            os.kill(os.getpid(), signal.SIGTERM)

    return prepare
