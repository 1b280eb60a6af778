"""Several processes write one SQLite file: each gets its turn."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlmodel import Session

from mebae.errors import DatabaseUnavailable
from mebae.store.database import Database

ROOT = Path(__file__).resolve().parents[1]
LONG = 0.03
"""Seconds of a transaction of the one that never pauses."""
BUSY = """
import sys, time
from sqlalchemy import text
from mebae.store.database import Database

database, long = Database(sys.argv[1]), float(sys.argv[2])

def work(session):
    session.execute(text("UPDATE turns SET n = n + 1"))
    time.sleep(long)

print("writing", flush=True)
while True:
    database.write_now(work)
"""


def one_more(session: Session) -> None:
    session.execute(text("UPDATE turns SET n = n + 1"))


@contextmanager
def somebody_writing(url: str) -> Iterator[subprocess.Popen[str]]:
    """A process that writes without a pause."""
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY, url, str(LONG)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/turns.db")
    database.write_now(lambda session: session.execute(text("CREATE TABLE turns (n INTEGER)")))
    yield database
    database.close()


def test_who_comes_now_and_then_does_not_wait_for_those_that_never_pause(shared: Database) -> None:
    with somebody_writing(shared.url), somebody_writing(shared.url):
        waits = []
        for number in range(16):
            time.sleep(0.01)
            began = time.monotonic()
            if number % 2:
                shared.write_now(one_more)
            else:
                with shared.driver(4.0) as connection:
                    connection.execute("UPDATE turns SET n = n + 1")
            waits.append(time.monotonic() - began)
    # Two turns of 30 ms on a quiet machine. Without turns it is 2 s and more, or "database is locked".
    assert sorted(waits)[8] < 0.5, waits
    assert max(waits) < 2.0, waits


def test_one_that_is_killed_while_it_writes_holds_up_nobody(shared: Database) -> None:
    for _ in range(2):
        with somebody_writing(shared.url):
            time.sleep(0.05)
        began = time.monotonic()
        shared.write_now(one_more)
        assert time.monotonic() - began < 1.0


def test_patience_is_for_the_turn_too(shared: Database) -> None:
    other = Database(shared.url)
    with other.driver(1.0), pytest.raises(DatabaseUnavailable), shared.driver(0.2):
        raise AssertionError("two wrote at once")
    with shared.driver(0.2) as connection:
        connection.execute("SELECT 1")
    other.close()
