"""The clocks of one hand-over: it sleeps until one is due, looks, and sleeps again. It decides nothing.

Who decides writes it in the database, and this is told afterwards (`look`): killed anywhere, late, told twice or not at all, it
finds the truth there when it looks. When no clock runs any more it is over; whatever happens later may start it anew.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

from temporalio import workflow
from temporalio.common import Priority, RetryPolicy
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from mebae import contracts
    from mebae.clock import WorldClock
    from mebae.contracts import HandoverInput, HandoverTended

TRIES = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30))
AT_MOST = timedelta(minutes=10)
AGAIN = timedelta(minutes=1)
EARLY = timedelta(seconds=1)
"""Clocks of two machines differ: who comes a moment early looks once more a moment later."""
EVENTS_A_RUN = 200


@workflow.defn(name=contracts.HANDOVER)
class HandoverWorkflow:
    """One hand-over, from its opening until sales has judged."""

    @workflow.init
    def __init__(self, start: HandoverInput) -> None:
        self._start = start
        self._clock = start.clock or WorldClock()
        self._told = False

    @workflow.run
    async def run(self, start: HandoverInput) -> str:
        while True:
            self._told = False
            tended = await self._tend()
            if tended is not None and tended.over:
                await workflow.wait_condition(workflow.all_handlers_finished)
                if not self._told:
                    return tended.did or "over"
                continue
            info = workflow.info()
            if info.get_current_history_length() >= EVENTS_A_RUN or info.is_continue_as_new_suggested():
                workflow.continue_as_new(start)
            await self._sleep(None if tended is None else tended.until)

    async def _tend(self) -> HandoverTended | None:
        """None: it could not be looked at, for the database is away or the like."""
        try:
            tended: HandoverTended = await workflow.execute_activity(
                contracts.TEND_HANDOVER,
                self._start,
                result_type=HandoverTended,
                schedule_to_close_timeout=AT_MOST,
                start_to_close_timeout=timedelta(minutes=1),
                retry_policy=TRIES,
                priority=Priority(priority_key=1),
                summary="looks at the clock",
            )
            return tended
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            return None

    async def _sleep(self, until: datetime | None) -> None:
        now = self._clock.world(workflow.now().astimezone(UTC))
        span = AGAIN if until is None else max(self._clock.real(until - now), EARLY)
        said = "" if until is None else f"{until:%Y-%m-%d %H:%M} UTC"
        workflow.set_current_details(f"- **Waits for**: sales\n- **Looks again**: {said or 'soon'}")
        with suppress(TimeoutError):
            await workflow.wait_condition(lambda: self._told, timeout=span, timeout_summary=f"until {said}" if said else "tries again")

    @workflow.signal(name=contracts.LOOK)
    def look(self) -> None:
        """Something has happened to this hand-over."""
        self._told = True
