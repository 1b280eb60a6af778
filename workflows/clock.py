"""Has a worker told what time it is, by Temporal's clock: see `mebae/right_time.py`."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from mebae import contracts


@workflow.defn(name=contracts.CLOCK)
class ClockWorkflow:
    """Ends at once."""

    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity(contracts.HEAR_TIME, schedule_to_close_timeout=timedelta(seconds=10))
