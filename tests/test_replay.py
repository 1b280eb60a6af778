"""Recorded open journeys replay: a change of the interpreter strands nobody (FAULTS R15)."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from workflows.broadcast import BroadcastWorkflow
from workflows.handover import HandoverWorkflow
from workflows.journey import JourneyWorkflow

HISTORIES = sorted((Path(__file__).parent / "histories").glob("*.json"))


async def replay(path: Path) -> None:
    replayer = Replayer(
        workflows=[JourneyWorkflow, BroadcastWorkflow, HandoverWorkflow],
        data_converter=pydantic_data_converter,
        workflow_runner=SandboxedWorkflowRunner(
            restrictions=SandboxRestrictions.default.with_passthrough_all_modules()
        ),
    )
    await replayer.replay_workflow(WorkflowHistory.from_json(path.stem, path.read_text()))


def test_there_is_one_at_each_kind_of_wait() -> None:
    assert {path.stem for path in HISTORIES} >= {
        "at_a_wait", "at_a_second_wait", "at_a_wait_for", "at_a_wait_until", "postponed", "paused", "resumed",
        "continued_as_new", "broadcast_in_its_test", "broadcast_paused", "broadcast_continued_as_new",
        "at_a_hand_over", "at_a_call", "handover",
    }  # fmt: skip


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
async def test_it_replays(path: Path) -> None:
    await replay(path)


@pytest.mark.parametrize("seed", ["1", "4242"])
def test_it_replays_under_another_hash_seed(seed: str) -> None:
    """Nothing that a journey does may hang on the order of a set."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.test_replay"],
        env={**os.environ, "PYTHONHASHSEED": seed},
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr[-2000:]


async def _all() -> None:
    for path in HISTORIES:
        await replay(path)
    await asyncio.sleep(0.2)


if __name__ == "__main__":
    asyncio.run(_all())
