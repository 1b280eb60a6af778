"""A job that is done again and again, such as the sweep of the segments: started by its Schedule, one at a time."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from mebae import contracts
    from mebae.contracts import SweepInput, Swept

TRIES = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(minutes=1))
AT_MOST = timedelta(hours=20)
"""One that takes longer has met something that no trying again cures; the next day's tries anew."""
HEARTBEAT = timedelta(seconds=30)
"""A worker that died is noticed after so long, and the work goes on at its last mark."""


@workflow.defn(name=contracts.SWEEP)
class SweepWorkflow:
    """One run of one job."""

    @workflow.run
    async def run(self, start: SweepInput) -> Swept:
        done: Swept = await workflow.execute_activity(
            contracts.RUN_JOB,
            start,
            result_type=Swept,
            schedule_to_close_timeout=AT_MOST,
            heartbeat_timeout=HEARTBEAT,
            retry_policy=TRIES,
            summary=start.job,
        )
        return done
