"""Composing mails in a process beside this one, so that one core writes them while another talks to the mail server.

`Beside` is this side; run as a program, this module is the other: `python -m mebae.mail.composing_beside`. They talk by pipes, in
pickles with their length before: first the settings, then parts of letters, each answered in order. The other side ends with
its pipe, however this side died.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import struct
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import structlog

import mebae
from mebae.errors import MailInvalid
from mebae.ledger import Fate
from mebae.logs import configure_logging
from mebae.mail.composing import Composed, Letter, compose
from mebae.mail.outgoing import MailSettings

log = structlog.get_logger()

UNEXPECTED = "unexpected"
IDLE = 30.0
"""Seconds after which a process that nobody wants ends, and gives its memory back."""
WITHIN = 60.0
"""Seconds for an answer; a process that takes longer hangs, and is ended."""
_LENGTH = struct.Struct("!Q")
_ENDED = "the process that composes mails has ended"
_HOME = Path(mebae.__file__).resolve().parents[1]

Mails = list[Composed | Fate]


def compose_one(letter: Letter, settings: MailSettings) -> Composed | Fate:
    """The mail, or why it cannot be sent. A slip of ours that one lead shows is none of the others' business."""
    try:
        return compose(letter, settings)
    except MailInvalid as broken:
        log.error("mail.invalid", delivery=letter.delivery, code=broken.code)
        return Fate("refused", broken.code, broken.detail)
    except Exception as error:
        log.exception("mail.unexpected", delivery=letter.delivery)
        return Fate("refused", UNEXPECTED, type(error).__name__)


class _Line:
    """One such process, and who waits for its answers. Nobody waits for one process's answer at another's."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process, self._stdin, self._stdout = process, process.stdin, process.stdout
        self.waiting: deque[asyncio.Future[Mails]] = deque()
        self.ended = False
        self._reading = asyncio.create_task(self._read())

    def say(self, packed: bytes) -> None:
        self._stdin.write(packed)

    async def ask(self, packed: bytes) -> Mails:
        """Raises OSError or EOFError if the process ends before it answers, TimeoutError (which is an OSError) if it hangs."""
        if self.ended:
            raise EOFError(_ENDED)
        answer: asyncio.Future[Mails] = asyncio.get_running_loop().create_future()
        self.waiting.append(answer)
        try:
            async with asyncio.timeout(WITHIN):
                self._stdin.write(packed)
                await self._stdin.drain()
                return await answer
        except TimeoutError:
            self._kill()
            raise

    async def close(self) -> None:
        self._kill()
        await self._reading
        await self.process.wait()

    async def _read(self) -> None:
        try:
            while True:
                (length,) = _LENGTH.unpack(await self._stdout.readexactly(_LENGTH.size))
                mails: Mails = pickle.loads(await self._stdout.readexactly(length))  # noqa: S301 - our own child's
                answer = self.waiting.popleft()
                if not answer.done():
                    answer.set_result(mails)
        except (EOFError, OSError):  # asyncio's IncompleteReadError is one
            pass
        except Exception as error:  # what cannot be read says nothing of where the next answer begins
            log.error("composing.garbled", kind=type(error).__name__, effect="another process is started")
        finally:
            self.ended = True
            self._kill()
            for answer in self.waiting:
                if not answer.done():
                    answer.set_exception(EOFError(_ENDED))
                    answer.exception()  # whoever waits is told; if nobody does, that is no news
            self.waiting.clear()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()


class Beside:
    """Such a process, started when it is first wanted, and again when it has died or was idle."""

    def __init__(self, settings: MailSettings) -> None:
        self._settings = settings
        self._packed_settings: bytes | None = None
        self._line: _Line | None = None
        self._starting = asyncio.Lock()
        self._idle: asyncio.TimerHandle | None = None

    async def compose(self, letters: Sequence[Letter]) -> Mails:
        """The letters' mails, in their order. What is asked for meanwhile is answered after it.

        Where there is no such process, or it dies or hangs, or a letter cannot travel, they are composed here.
        """
        try:
            if self._packed_settings is None:
                self._packed_settings = _packed(self._settings)
            packed = _packed(list(letters))
        except Exception as error:  # pickle raises whatever it likes
            log.error("composing.stays", kind=type(error).__name__, effect="composed in this process", letters=len(letters))
            return self._here(letters)
        try:
            mails = await (await self._running(self._packed_settings)).ask(packed)
        except (OSError, EOFError) as error:
            log.warning("composing.alone", kind=type(error).__name__, effect="broadcasts go out more slowly")
            return self._here(letters)
        self._rest()
        return mails

    async def close(self) -> None:
        """Ends the process; the next wish starts another."""
        if self._idle is not None:
            self._idle.cancel()
        line, self._line = self._line, None
        if line is not None:
            await line.close()

    def _here(self, letters: Sequence[Letter]) -> Mails:
        return [compose_one(letter, self._settings) for letter in letters]

    async def _running(self, settings: bytes) -> _Line:
        async with self._starting:
            if self._line is None or self._line.ended:
                path = os.pathsep.join(filter(None, (str(_HOME), os.environ.get("PYTHONPATH"))))
                self._line = _Line(
                    await asyncio.create_subprocess_exec(
                        sys.executable, "-m", __name__, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                        limit=2**21, env={**os.environ, "PYTHONPATH": path},
                    )
                )  # fmt: skip
                self._line.say(settings)
            return self._line

    def _rest(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        loop = asyncio.get_running_loop()
        self._idle = loop.call_later(IDLE, lambda: loop.create_task(self._end_if_idle()))

    async def _end_if_idle(self) -> None:
        if self._line is not None and not self._line.waiting:
            await self.close()


# The other side ------------------------------------------------------------------------------------------------------


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Composes what comes until nothing more comes."""
    settings = _unpacked(source)
    while (letters := _unpacked(source)) is not None:
        sink.write(_packed([compose_one(letter, settings) for letter in letters]))
        sink.flush()


def _packed(value: Any) -> bytes:
    data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(data)) + data


def _unpacked(source: BinaryIO) -> Any:
    """None at the end."""
    header = source.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(header)
    data = source.read(length)
    return pickle.loads(data) if len(data) == length else None  # noqa: S301 - our own parent's


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is told to the whole group; the pipe ends when it is time
    configure_logging()
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever is printed here is no mail
    serve(sys.stdin.buffer, sink)


if __name__ == "__main__":
    main()
