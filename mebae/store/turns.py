"""Turns at writing a SQLite file: one thread of one process at a time, and whoever waits comes before whoever has just written.

SQLite itself lets processes that wait sleep up to 100 ms between two looks, and one that writes without a pause takes the
lock again before they look. A worker that applied a flood of events left the server one turn in four seconds.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform != "win32":
    import fcntl

TURNS = ("-next", "-turn")
"""What the names of the files beside a database end with."""
_SHORTEST, _LONGEST = 0.0002, 0.005
"""Seconds between two looks."""


class Turns:
    """The turns of one process. Two files beside the database are locked, never written; the system unlocks those of the dead."""

    def __init__(self, database: Path | None) -> None:
        self._mine = threading.Lock()
        # Who wants to write holds `next` until it is let in. So the one that has just written has to wait behind it.
        self._next, self._in = (_File(database, name) for name in TURNS)

    @contextmanager
    def turn(self, patience: float, *, need: bool = False) -> Iterator[float]:
        """A turn, waited for at most `patience` seconds; gives what is left of them.

        Without one in time: `TimeoutError` if it is needed; else SQLite is left to say whether there is a way.
        """
        until = time.monotonic() + patience
        # Nobody waits for a thread of one's own without end, but a turn that takes long is no reason to give up.
        if not self._mine.acquire(timeout=patience if need else -1):
            raise TimeoutError
        try:
            let_in = self._next.lock(until)
            if let_in:
                let_in = self._in.lock(until)
                self._next.unlock()
            if need and not let_in:
                raise TimeoutError
            try:
                yield max(0.0, until - time.monotonic())
            finally:
                if let_in:
                    self._in.unlock()
        finally:
            self._mine.release()

    def close(self) -> None:
        self._next.close()
        self._in.close()


class _File:
    """A file to be locked. Where there can be none (no folder of ours, Windows), there is nobody to wait for."""

    def __init__(self, database: Path | None, name: str) -> None:
        self._handle = None
        if database is not None and sys.platform != "win32":
            try:
                self._handle = open(f"{database}{name}", "ab")  # noqa: SIM115 - open as long as the database is
            except OSError:
                self._handle = None

    def lock(self, until: float) -> bool:
        """Whether it was got in time."""
        if self._handle is None or sys.platform == "win32":
            return True
        pause = _SHORTEST
        while True:
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except OSError:
                if time.monotonic() >= until:
                    return False
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST)

    def unlock(self) -> None:
        if self._handle is not None and sys.platform != "win32":
            fcntl.flock(self._handle, fcntl.LOCK_UN)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.close()
            self._handle = None
