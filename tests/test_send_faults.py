"""R2: sending fails at every point where it touches the world, and nobody gets a mail twice, nor is one lost in silence."""

from __future__ import annotations

import pytest

from mebae.ledger import Policy
from mebae.store.database import Database
from tests.faults.sending import every_point_of_a_broadcast, every_point_of_a_journeys_mail


@pytest.mark.parametrize("policy", ["hold", "retry"])
async def test_journeys_mail_comes_once_whatever_fails_on_its_way(database: Database, policy: Policy) -> None:
    assert await every_point_of_a_journeys_mail(database, policy) == []


@pytest.mark.parametrize("policy", ["hold", "retry"])
async def test_broadcasts_mails_come_once_whatever_fails_on_their_way(database: Database, policy: Policy) -> None:
    assert await every_point_of_a_broadcast(database, policy) == []


@pytest.mark.parametrize("policy", [pytest.param("hold", marks=pytest.mark.slow), "retry"])
async def test_process_that_takes_over_dies_too_and_no_mail_comes_more_often_for_it(sqlite_database: Database, policy: Policy) -> None:
    assert await every_point_of_a_journeys_mail(sqlite_database, policy, twice=True) == []
