"""R18, short: leads live at random, processes die, and nobody who said no hears from us. The long one is a campaign."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from mebae.ledger import Policy
from mebae.store.database import Database
from tests.faults.lives import Lives
from tests.postgres import PostgresServer

SHORT = settings(
    max_examples=8, stateful_step_count=15, deadline=None, derandomize=True, database=None,
    phases=(Phase.generate,), suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("unknown", ["hold", "retry"])
def test_lives_at_random_on_sqlite(_migrated_sqlite: Path, tmp_path: Path, unknown: Policy) -> None:  # noqa: PT019 - their value is wanted
    made = iter(range(100_000))

    class There(Lives):
        policy = unknown

        @staticmethod
        def opened() -> Database:
            path = tmp_path / f"life{next(made)}.db"
            shutil.copy(_migrated_sqlite, path)
            return Database(f"sqlite:///{path}")

    run_state_machine_as_test(There, settings=SHORT)  # type: ignore[no-untyped-call]


def test_lives_at_random_on_postgres(postgres_server: PostgresServer, _migrated_postgres: str) -> None:  # noqa: PT019 - their value is wanted
    names: list[str] = []

    class There(Lives):
        @staticmethod
        def opened() -> Database:
            names.append(postgres_server.create(_migrated_postgres))
            return Database(postgres_server.url(names[-1]))

    try:
        run_state_machine_as_test(There, settings=settings(SHORT, max_examples=2))  # type: ignore[no-untyped-call]
    finally:
        for name in names:
            postgres_server.drop(name)
