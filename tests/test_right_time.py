"""The worker's clock is Temporal's, whatever its machine says."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from mebae import right_time
from mebae.right_time import RightTime
from tests.house import DEV_SERVERS
from workflows.clock import ClockWorkflow

CLOSE = timedelta(seconds=5)
"""Machines are slow at times; the wrong clocks here are days off."""


class Machine:
    """A machine whose clock somebody sets, and that may sleep: what counts spans stands still then."""

    def __init__(self) -> None:
        self.off, self.slept = timedelta(0), 0.0

    def now(self) -> datetime:
        return datetime.now(UTC) + self.off

    def spans(self) -> float:
        return time.monotonic() - self.slept


@pytest.mark.parametrize("off", [timedelta(days=3), timedelta(days=-3)], ids=["3 days fast", "3 days slow"])
async def test_worker_on_a_machine_with_a_wrong_clock_has_temporals_time(off: timedelta) -> None:
    machine = Machine()
    machine.off = off
    right = RightTime(await DEV_SERVERS.client(), ClockWorkflow, machine=machine.now, spans=machine.spans)
    await right.ask()
    assert abs(right.now() - datetime.now(UTC)) < CLOSE


async def test_where_every_answer_is_slow_the_quickest_of_a_few_is_taken_and_another_is_asked_for_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(right_time, "AT_MOST", timedelta(0))
    monkeypatch.setattr(right_time, "TRY_AGAIN", 0.01)
    machine = Machine()
    machine.off = timedelta(days=3)
    right = RightTime(await DEV_SERVERS.client(), ClockWorkflow, machine=machine.now, spans=machine.spans)
    async with asyncio.timeout(60):
        await right.ask()
    assert abs(right.now() - datetime.now(UTC)) < 2 * CLOSE
    assert right.ask_every == right_time.SOON


async def test_somebody_sets_the_clock_and_the_time_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(right_time, "LOOK", 0.01)
    machine, asked = Machine(), 0

    class Counting(RightTime):
        async def ask(self) -> None:
            nonlocal asked
            await super().ask()
            asked += 1

    right = Counting(await DEV_SERVERS.client(), ClockWorkflow, machine=machine.now, spans=machine.spans)
    await right.ask()
    running = asyncio.create_task(right.run())
    try:
        await asyncio.sleep(0.1)
        assert asked == 1
        machine.off = timedelta(days=-400)
        assert abs(right.now() - datetime.now(UTC)) < CLOSE, "before Temporal is asked again, too"
        async with asyncio.timeout(20):
            while asked < 2:
                await asyncio.sleep(0.02)
        assert abs(right.now() - datetime.now(UTC)) < CLOSE
        machine.slept = 8 * 3600.0
        async with asyncio.timeout(20):
            while asked < 3:
                await asyncio.sleep(0.02)
        assert abs(right.now() - datetime.now(UTC)) < CLOSE, "a machine that slept has lost hours"
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
