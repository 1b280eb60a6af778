"""The Temporal driver of a broadcast's run: asks an activity for some batches, shows what came of them, rests, asks again.

What comes next is decided in the activity (`mebae/broadcasting.py`): the history holds numbers and times only, and the leads
stand in the database.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Literal

from temporalio import workflow
from temporalio.common import RetryPolicy, SearchAttributeKey
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

from workflows.failing import LOST_ATTEMPTS, said_no

with workflow.unsafe.imports_passed_through():
    from mebae import contracts
    from mebae.clock import WorldClock
    from mebae.contracts import (
        BroadcastInput,
        BroadcastOpened,
        BroadcastStanding,
        EndRequest,
        OpenRequest,
        RunRequest,
        SteerRequest,
    )
    from workflows.broadcast_details import details, summary

TRIES = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30))
SENDING_TRIES = RetryPolicy(
    initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30), non_retryable_error_types=LOST_ATTEMPTS
)
AT_MOST = timedelta(minutes=10)
"""No activity retries by itself for longer; then the run rests, and a pause or an end is obeyed."""
ONE_TRY = timedelta(minutes=5)
"""Above what a batch takes that meets a mail server which answers late; a dead worker is noticed by its heartbeat."""
HEARTBEAT = timedelta(seconds=10)
ASK_AGAIN = timedelta(minutes=5)
EVENTS_A_RUN = 100

BROADCAST, STEP = (SearchAttributeKey.for_keyword(name) for name in ("Broadcast", "Step"))
PAUSED = SearchAttributeKey.for_bool("Paused")
FIRED = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")
"""Temporal's own: for which time a Schedule started this workflow."""


@workflow.defn(name=contracts.BROADCAST)
class BroadcastWorkflow:
    """One run of one broadcast."""

    @workflow.init
    def __init__(self, start: BroadcastInput) -> None:
        self._start = start
        self._clock = start.clock or WorldClock()
        self._run = start.run
        self._standing = start.standing or BroadcastStanding(next="more", status="starting")
        self._paused, self._ended = start.paused, False
        self._changed = False
        """Whether somebody steered it since it was asked last."""
        self._steering = asyncio.Lock()

    @workflow.run
    async def run(self, start: BroadcastInput) -> str:
        try:
            return await self._go()
        except (asyncio.CancelledError, ActivityError) as error:
            if (
                is_cancelled_exception(error) and self._run is not None and not self._ended
            ):  # by a person, in Temporal's UI
                await asyncio.shield(self._steer("end", "cancelled"))
                await asyncio.shield(self._send())
            raise

    async def _go(self) -> str:
        if self._start.standing is None:
            opened = await self._open()
            self._run = opened.run
            if opened.run is None:
                return opened.why
            workflow.upsert_search_attributes(
                [BROADCAST.value_set(self._start.broadcast), STEP.value_set("starting"), PAUSED.value_set(self._paused)]
            )
        while True:
            self._changed = False
            standing = await self._send()
            self._standing = standing
            if standing.next == "paused" and not self._changed:
                self._paused = True  # the database knows best: else nobody could resume it
            self._show()
            if standing.next == "over":
                await workflow.wait_condition(workflow.all_handlers_finished)
                return standing.outcome or "completed"
            if self._too_long():
                await workflow.wait_condition(workflow.all_handlers_finished)
                again = {"run": self._run, "paused": self._paused, "standing": self._standing}
                workflow.continue_as_new(self._start.model_copy(update=again))
            if standing.next == "paused":
                await workflow.wait_condition(lambda: self._changed)
            elif standing.next == "rest":
                await self._rest(standing)

    async def _open(self) -> BroadcastOpened:
        fired = workflow.info().typed_search_attributes.get(FIRED)
        request = OpenRequest(
            broadcast=self._start.broadcast, run=self._start.run, fired=fired, clock=self._start.clock
        )
        opened: BroadcastOpened = await workflow.execute_activity(
            contracts.OPEN_BROADCAST, request, result_type=BroadcastOpened, start_to_close_timeout=ONE_TRY, retry_policy=TRIES,
            summary=self._start.broadcast,
        )  # fmt: skip
        return opened

    async def _send(self) -> BroadcastStanding:
        """Some batches. A no that lasts for ten minutes is a rest of five; batches whose worker died are asked for again at once."""
        assert self._run is not None
        try:
            standing: BroadcastStanding = await workflow.execute_activity(
                contracts.SEND_BROADCAST,
                RunRequest(run=self._run, clock=self._start.clock),
                result_type=BroadcastStanding,
                schedule_to_close_timeout=AT_MOST,
                start_to_close_timeout=ONE_TRY,
                heartbeat_timeout=HEARTBEAT,
                retry_policy=SENDING_TRIES,
                summary=summary(self._standing),
            )
            return standing
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            code = said_no(error)
            if code is None:  # to know that took a time-out, so that asking at once hurries nobody
                return self._standing.model_copy(update={"next": "more", "rate": 0.0})
            if code == "no-such-run":
                raise
            until = self._now() + self._clock.worldly(ASK_AGAIN)
            return self._standing.model_copy(update={"next": "rest", "until": until, "why": code, "rate": 0.0})

    async def _rest(self, standing: BroadcastStanding) -> None:
        until = standing.until or self._now()
        span = self._clock.real(until - self._now())
        if span <= timedelta(0):
            return
        try:
            await workflow.wait_condition(
                lambda: self._changed, timeout=span, timeout_summary=f"{standing.why} until {until:%Y-%m-%d %H:%M} UTC"
            )
        except TimeoutError:
            return

    def _too_long(self) -> bool:
        info = workflow.info()
        return info.get_current_history_length() >= EVENTS_A_RUN or info.is_continue_as_new_suggested()

    def _show(self) -> None:
        """What ops see: the part as a search attribute where it changes (one event), the progress as details (no event)."""
        step = self._standing.part or self._standing.status
        if workflow.info().typed_search_attributes.get(STEP) != step:
            workflow.upsert_search_attributes([STEP.value_set(step)])
        workflow.set_current_details(details(self._start.broadcast, self._run, self._standing, paused=self._paused))

    def _now(self) -> datetime:
        return self._clock.world(workflow.now().astimezone(UTC))

    # What others say -------------------------------------------------------------------------------------------------

    @workflow.update(name=contracts.PAUSE)
    async def pause(self) -> None:
        """No further mail, but for those whose bytes are on their way."""
        async with self._steering:
            await self._steer("pause")
            self._paused = True
            workflow.upsert_search_attributes([PAUSED.value_set(True)])
            self._show()

    @pause.validator
    def _may_pause(self) -> None:
        self._must_run()
        if self._paused:
            raise ApplicationError("the broadcast is paused already")

    @workflow.update(name=contracts.RESUME)
    async def resume(self) -> None:
        """Goes on."""
        async with self._steering:
            await self._steer("resume")
            self._paused = False
            workflow.upsert_search_attributes([PAUSED.value_set(False)])
            self._show()

    @resume.validator
    def _may_resume(self) -> None:
        self._must_run()
        if not self._paused:
            raise ApplicationError("the broadcast is not paused")

    @workflow.update(name=contracts.END)
    async def end(self, request: EndRequest) -> None:
        """Ends it: what waits is given up, and of what is in flight it is still said what came of it."""
        async with self._steering:
            await self._steer("end", request.outcome)
            self._ended, self._paused = True, False

    @end.validator
    def _may_end(self, request: EndRequest) -> None:
        self._must_run()

    @workflow.query(name=contracts.WHERE)
    def where(self) -> BroadcastStanding:
        return self._standing

    def _must_run(self) -> None:
        if self._run is None:
            raise ApplicationError("the broadcast has not begun yet: try again in a moment")

    async def _steer(self, verb: Literal["pause", "resume", "end"], outcome: str = "ended-by-hand") -> None:
        assert self._run is not None
        await workflow.execute_activity(
            contracts.STEER_BROADCAST,
            SteerRequest(run=self._run, clock=self._start.clock, verb=verb, outcome=outcome),
            start_to_close_timeout=timedelta(minutes=1),
            retry_policy=TRIES,
            summary=verb,
        )
        self._changed = True
