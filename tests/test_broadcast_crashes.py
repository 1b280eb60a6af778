"""A worker that is killed while a broadcast goes out: nobody is lost, nobody gets it twice beyond the policy."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.broadcasts import broadcast_killed
from tests.faults.campaign import Home


@pytest.mark.parametrize(
    ("kind", "policy"),
    [
        ("sqlite", "hold"),
        pytest.param("postgres", "hold", marks=pytest.mark.slow),
        pytest.param("sqlite", "retry", marks=pytest.mark.slow),
        pytest.param("postgres", "retry", marks=pytest.mark.slow),
    ],
)
async def test_a_broadcast_whose_worker_is_killed_twice(
    kind: str, policy: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    at = Home(request.getfixturevalue(f"{kind}_url"), tmp_path, request.getfixturevalue("postgres_server") if kind == "postgres" else None)
    finding = await broadcast_killed(at, leads=300, kills=2, policy=policy)
    assert finding.good, str(finding)
