"""Brings a database to today's tables: `migrate(url)`. The migrations are part of the package, so an installed one has them.

A new migration, after a change of `tables.py`: `python -m mebae.store.migrate "what changes"`; then read what it wrote.
"""

from __future__ import annotations

import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlmodel import SQLModel

from mebae.errors import DatabaseUnavailable
from mebae.store.database import Database

log = structlog.get_logger()

_LOCK = 0x6D65626165  # "mebae": the advisory lock that one migrating process holds at a time
_TRIES = 6


def migrate(url: str) -> None:
    """Upgrades the database to the newest tables. All or nothing, and safe if several processes do it at once.

    Raises `DatabaseUnavailable` if the database does not answer.
    """
    with _connection(url) as connection:
        command.upgrade(_config(connection), "head")
        if connection.dialect.name == "sqlite":
            broken = connection.execute(text("PRAGMA foreign_key_check")).first()
            if broken is not None:
                raise RuntimeError(f"the migration would leave table '{broken[0]}' pointing at rows that do not exist")


def is_current(url: str) -> bool:
    """Whether the database has today's tables. A SQLite file that does not exist is not made."""
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        return False
    with _connection(url) as connection:
        return MigrationContext.configure(connection).get_current_heads() == tuple(
            ScriptDirectory.from_config(_config(connection)).get_heads()
        )


def differences(url: str) -> list[Any]:
    """What Alembic's autogenerate finds different between the database and `tables.py`; empty if nothing."""
    options = {"compare_type": True, "compare_server_default": True}
    with _connection(url) as connection:
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), SQLModel.metadata))


def write_revision(message: str) -> None:
    """Writes the next migration from the difference between the last one and `tables.py`, worked out on SQLite."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/mebae.db"
        migrate(url)
        with _connection(url) as connection:
            config = _config(connection)
            number = len(list(ScriptDirectory.from_config(config).walk_revisions())) + 1
            command.revision(config, message, autogenerate=True, rev_id=f"{number:04d}")


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


@contextmanager
def _connection(url: str) -> Iterator[Connection]:
    """One connection in a transaction that keeps other migrating processes out: they wait and then find nothing to do."""
    database = Database(url, threads=1)
    try:
        with _connected(database) as connection:
            yield connection
    finally:
        database.close()


@contextmanager
def _connected(database: Database) -> Iterator[Connection]:
    with _patiently_opened(database) as connection:
        if not database.sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        yield connection
        connection.commit()


def _patiently_opened(database: Database) -> Connection:
    """Opens the connection and its transaction. Two processes that both switch a new SQLite file to WAL may turn each other away."""
    for attempt in range(_TRIES):
        connection = None
        try:
            connection = database.engine.connect()
            if database.sqlite:
                # A table is changed by copying it, which must not pull at the rows that point to it. No effect in a transaction.
                raw = connection.connection.driver_connection
                assert isinstance(raw, sqlite3.Connection)
                raw.execute("PRAGMA foreign_keys=OFF")
            connection.begin()
            return connection
        except (OperationalError, InterfaceError) as error:
            if connection is not None:
                connection.close()
            if "locked" not in str(error.orig) or attempt == _TRIES - 1:
                log.warning("database.unavailable", kind=type(error.orig).__name__)
                raise DatabaseUnavailable from None
            time.sleep(random.uniform(0.02, 0.05) * 2**attempt)  # noqa: S311
    raise AssertionError("unreachable")


if __name__ == "__main__":
    write_revision(sys.argv[1])
