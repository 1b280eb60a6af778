"""What all tests share. Ask for these by name:

- `database`: a `Database` with all tables and no rows; the test runs once on SQLite and once on PostgreSQL;
- `sqlite_database`, `postgres_database`: the same, one kind only;
- `sqlite_url`, `postgres_url`: only the URL of such a database, for programs that open it themselves;
- `empty_sqlite_url`, `empty_postgres_url`: the same without tables;
- `postgres_server`: the server of this session (`.create()`, `.drop(name)`, `.url(name)`, `.pid`), started when first asked for.

Tables come from the Alembic migration, run once a session; each test gets a copy of its own (5 ms on SQLite, 60 ms on
PostgreSQL). PostgreSQL runs with fsync on: what a test commits is committed.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from mebae.store.database import Database
from mebae.store.migrate import migrate
from tests.postgres import PostgresServer, running_postgres

hypothesis.settings.register_profile("mebae", deadline=None)  # the machines that run this share their cores
hypothesis.settings.load_profile("mebae")


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database with all tables and no rows, on SQLite and on PostgreSQL."""
    yield from _opened(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def sqlite_database(sqlite_url: str) -> Iterator[Database]:
    yield from _opened(sqlite_url)


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[Database]:
    yield from _opened(postgres_url)


def _opened(url: str) -> Iterator[Database]:
    database = Database(url)
    yield database
    database.close()


@pytest.fixture
def sqlite_url(tmp_path: Path, _migrated_sqlite: Path) -> str:
    """The URL of a SQLite file with all tables."""
    shutil.copy(_migrated_sqlite, tmp_path / "mebae.db")
    return f"sqlite:///{tmp_path / 'mebae.db'}"


@pytest.fixture
def empty_sqlite_url(tmp_path: Path) -> str:
    """The URL of a SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'empty.db'}"


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, _migrated_postgres: str) -> Iterator[str]:
    """The URL of a PostgreSQL database with all tables."""
    name = postgres_server.create(_migrated_postgres)
    yield postgres_server.url(name)
    postgres_server.drop(name)


@pytest.fixture
def empty_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a PostgreSQL database without tables."""
    name = postgres_server.create()
    yield postgres_server.url(name)
    postgres_server.drop(name)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A real PostgreSQL, for the session."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def _migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "mebae.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def _migrated_postgres(postgres_server: PostgresServer) -> str:
    name = postgres_server.create()
    migrate(postgres_server.url(name))
    return name


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """Gives Temporal's threads a moment, or the interpreter may crash at its exit (sdk-python #300) and spoil the exit code."""
    time.sleep(0.2)
