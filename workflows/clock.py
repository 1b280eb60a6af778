"""Says what time it is, by Temporal's clock: see `mebae/right_time.py`."""

from __future__ import annotations

from datetime import datetime

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from mebae import contracts


@workflow.defn(name=contracts.CLOCK)
class ClockWorkflow:
    """Ends at once."""

    @workflow.run
    async def run(self) -> datetime:
        return workflow.now()
