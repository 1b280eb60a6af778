"""`python server.py` as a process of its own, which comes and goes: for benchmarks, crashes and campaigns."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[1]
KEY = "the-key"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServerProcess:
    """The HTTP server on one port. Further settings by their names: `ServerProcess(url, folder, MEBAE_INTAKE_WAITING="10")`."""

    def __init__(self, url: str, folder: Path, **settings: str) -> None:
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._ready, self._log = folder / "server.ready", folder / "server.log"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MEBAE_", "DATABASE_"))}
        own = {"DATABASE_URL": url, "MEBAE_STATE": str(folder), "MEBAE_PORT": str(self.port), "MEBAE_WRITE_KEYS": KEY}
        self._environment = {**kept, **own, **settings}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, limit: float = 30.0) -> float:
        """Starts it; the seconds until it was ready."""
        self._ready.unlink(missing_ok=True)
        began = time.monotonic()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "server.py", "--ready-file", str(self._ready)],
                cwd=ROOT, env=self._environment, stdout=log, stderr=log,
            )  # fmt: skip
        while not self._ready.exists():
            if self._process.poll() is not None or time.monotonic() - began > limit:
                raise RuntimeError(f"the server did not start:\n{self.log()[-2000:]}")
            time.sleep(0.01)
        return time.monotonic() - began

    def kill(self) -> None:
        """`kill -9`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)

    def stop(self) -> None:
        """As an operator ends it."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(20)

    def log(self) -> str:
        return self._log.read_text()

    def memory(self, *, highest: bool = False) -> float:
        """Megabytes of memory it has now, or had at most."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(rf"^{'VmHWM' if highest else 'VmRSS'}:\s+(\d+) kB", status, re.MULTILINE)
        assert found is not None
        return int(found[1]) / 1024

    def __enter__(self) -> ServerProcess:
        self.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()
