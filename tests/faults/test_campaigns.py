"""The campaigns of `make faults`, short. R4, R5 and R11 have theirs in tests/test_intake.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.campaign import Finding, Home, home, silent
from tests.faults.crm_away import crm_away
from tests.faults.flood import flooded
from tests.faults.mail_server import mail_server_faults
from tests.faults.outages import database_away, postgres_crashes
from tests.faults.poison import poisoned
from tests.faults.repeats import in_any_order, one_event_again


@pytest.fixture(params=["sqlite", "postgres"])
def at(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    url = request.getfixturevalue(f"{request.param}_url")
    return Home(url, tmp_path, request.getfixturevalue("postgres_server") if request.param == "postgres" else None)


@pytest.fixture
def own_postgres() -> Iterator[Home]:
    """A server that a test may crash."""
    with home("PostgreSQL") as made:
        yield made


def holds(finding: Finding) -> None:
    assert finding.good, str(finding)


async def test_one_event_a_hundred_times_after_a_restart_and_a_month_later_is_scored_once(at: Home) -> None:
    holds(await one_event_again(at, events=2))


async def test_crm_systems_away_for_an_hour_are_told_once_on_their_return_and_mail_goes_on(at: Home) -> None:
    holds(await crm_away(at, leads=12, tick=silent))


async def test_lives_told_in_any_order_late_and_by_wrong_clocks_come_to_the_same_scores(
    sqlite_url: str, postgres_url: str, tmp_path: Path
) -> None:
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
    holds(await in_any_order([Home(sqlite_url, folders[0]), Home(postgres_url, folders[1])], leads=30))


async def test_a_sqlite_held_by_another_writer_is_a_503_and_all_goes_on_afterwards(sqlite_url: str, tmp_path: Path) -> None:
    holds(await database_away(Home(sqlite_url, tmp_path), "held", seconds=5))


async def test_postgres_crashes_in_three_ways_and_nothing_is_lost_or_counted_twice(own_postgres: Home) -> None:
    holds(await postgres_crashes(own_postgres, rounds=3, down=0.3))


async def test_poison_and_bombs_beside_ordinary_load(sqlite_url: str, tmp_path: Path) -> None:
    holds(await poisoned(Home(sqlite_url, tmp_path), rounds=1, connections=2))


async def test_a_flood_loses_nothing_and_wakes_every_journey_that_waited_for_it(sqlite_url: str, tmp_path: Path) -> None:
    # What is measured here is that it works: the machine runs other tests too, so that the campaign's own bar would be chance.
    holds(await flooded(Home(sqlite_url, tmp_path), rate=400, seconds=3, leads=100, within=20, slowest=3))


async def test_mail_servers_that_turn_mail_away_say_nothing_or_drop_the_line(at: Home) -> None:
    holds(await mail_server_faults(at, leads=60))
