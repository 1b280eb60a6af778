"""R10 with whole processes: machines whose clocks are wrong or jump, beside a Temporal that goes right."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.campaign import Home
from tests.faults.wrong_clock import faketime, worker_with_a_wrong_clock

pytestmark = pytest.mark.skipif(faketime() is None, reason="needs faketime, for a process with a clock of its own (apt install faketime)")


async def test_a_worker_whose_clock_jumps_sends_at_the_right_times_and_forgets_nobody(sqlite_url: str, tmp_path: Path) -> None:
    finding = await worker_with_a_wrong_clock(
        Home(sqlite_url, tmp_path), leads=6, places=3, clock="jumping by up to 400 days, every 2 s"
    )
    assert finding.good, str(finding)
