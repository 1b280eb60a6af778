"""The baseline of `bench.journeys`: the same journey as a plain Temporal workflow, with the same activities."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from mebae import contracts
    from mebae.contracts import JourneyInput, StepInput


@workflow.defn(name="Handwritten")
class Handwritten:
    """Start → mail → wait → mail → end."""

    @workflow.run
    async def run(self, start: JourneyInput) -> str:
        await self._send(start, "hello")
        await workflow.sleep(start.clock.real(timedelta(days=1)) if start.clock else timedelta(days=1))
        await self._send(start, "again")
        return "completed"

    async def _send(self, start: JourneyInput, step: str) -> None:
        await workflow.execute_activity(
            contracts.SEND_MAIL,
            StepInput(entry=start.entry, step=step, clock=start.clock),
            task_queue=contracts.MAIL_QUEUE,
            start_to_close_timeout=timedelta(minutes=5),
            heartbeat_timeout=timedelta(seconds=10),
        )
