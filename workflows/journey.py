"""The Temporal driver of a journey: carries out what `mebae.journey` commands, and decides nothing.

Read `mebae/journey.py` for what a journey does. Here stands how: which command is a local activity, which a remote one
and on what queue, how long each may take, and what ops see of it.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from temporalio import workflow
from temporalio.common import Priority, RetryPolicy, SearchAttributeKey
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

from workflows.failing import said_no

with workflow.unsafe.imports_passed_through():
    from pydantic import RootModel

    from mebae import contracts
    from mebae.clock import WorldClock
    from mebae.contracts import EndRequest, JourneyInput, Nudged, PauseInput, StepInput, Where
    from mebae.graph import Graph, NotifySales, Send, waiting_for
    from mebae.journey import (
        Act,
        Choose,
        Ending,
        Failed,
        Finish,
        Journey,
        Outcome,
        Park,
        Rest,
        Settle,
        Settling,
        Stop,
        Woken,
    )
    from workflows.details import details, step_summary, timer_summary

LOCAL = {contracts.SET_LEAD, contracts.TAG_LEAD, contracts.ENROLL}
"""Acts that only touch our database: no task queue, one history event."""
LOCAL_TRIES = RetryPolicy(maximum_attempts=3, initial_interval=timedelta(milliseconds=200))
TRIES = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30))
AT_MOST = timedelta(minutes=10)
"""No activity retries by itself for longer: then the journey rests, so that the gate, a pause and an exit are asked again."""
HEARTBEAT = timedelta(seconds=10)
ASK_AGAIN = timedelta(minutes=5)
LOST = timedelta(seconds=10)
"""The rest where nobody said no: the workers died, or there were none."""
EVENTS_A_RUN = 100
SPREAD = timedelta(minutes=1)
"""Timers that passed during a pause fire within this span after it."""


class Answer(RootModel[Outcome]):
    """What an activity answers, as the converter reads it.

    A model, whose reader is made once: every workflow has a converter of its own, and for the bare union each would make
    its own (7 ms; a hundred first tasks at once held each other up for longer than a workflow task may take).
    """


STEP, WAITING_FOR, STAGE = (SearchAttributeKey.for_keyword(name) for name in ("Step", "WaitingFor", "Stage"))
PAUSED = SearchAttributeKey.for_bool("Paused")


@workflow.defn(name=contracts.JOURNEY)
class JourneyWorkflow:
    """One lead's run through one version of a scenario."""

    @workflow.init
    def __init__(self, start: JourneyInput) -> None:
        graph = Graph.model_validate(start.graph)
        self._start = start
        self._clock = start.clock or WorldClock()
        self._journey = (
            Journey(graph, start.state)
            if start.state is not None
            else Journey.begin(graph, start.lead, mark=start.mark, stage=start.stage)
        )
        self._timer: asyncio.Task[None] | None = None
        self._timer_until: datetime | None = None
        self._resumed = False
        self._steering = asyncio.Lock()

    @workflow.run
    async def run(self, start: JourneyInput) -> str:
        try:
            return await self._run()
        except (asyncio.CancelledError, ActivityError) as error:
            if is_cancelled_exception(error) and not self._ended:  # by a person, in the Temporal UI
                await asyncio.shield(self._close("cancelled"))
            raise

    async def _run(self) -> str:
        outcome: Outcome | None = None
        while True:
            command = self._journey.next(outcome)
            match command:
                case Act():
                    outcome = await self._act(command)
                case Settle():
                    outcome = await self._local(
                        contracts.REST,
                        self._input(command.rest.step, command.rest, command.woke, sheltered=command.rest.sheltered),
                    )
                case Choose():
                    outcome = await self._local(
                        contracts.CHOOSE, self._input(command.step, None, command.woke, sheltered=command.sheltered)
                    )
                case Finish():
                    outcome = await self._local(contracts.FINISH, self._input("end", Ending(command.outcome)))
                case Rest():
                    outcome = await self._rest(command)
                case Park():
                    await workflow.wait_condition(lambda: not self._journey.state.paused or self._ended)
                    outcome, self._resumed = None, True
                case Stop():
                    await workflow.wait_condition(workflow.all_handlers_finished)
                    return command.outcome
            if self._ended:  # ended by hand while something was under way: its outcome comes too late
                outcome = None

    # Carrying out ----------------------------------------------------------------------------------------------------

    async def _act(self, act: Act) -> Outcome:
        step = self._journey.graph.step(act.step)
        request = self._input(act.step, act.plan, act.woke, act.visit, sheltered=act.sheltered)
        if isinstance(step, Send):
            fair = Priority(fairness_key=self._start.fairness) if self._start.fairness else Priority.default
            return await self._remote(contracts.SEND_MAIL, request, contracts.MAIL_QUEUE, heartbeat=True, priority=fair)
        if isinstance(step, NotifySales):
            return await self._remote(
                contracts.NOTIFY_SALES, request, contracts.SALES_QUEUE, heartbeat=True, priority=Priority(priority_key=1)
            )
        if step.do == "run":
            return await self._remote(contracts.RUN, request, contracts.JOURNEYS_QUEUE)
        return await self._local({"tag": contracts.TAG_LEAD}.get(step.do, step.do), request)

    async def _local(self, name: str, request: StepInput) -> Outcome:
        """A local activity; if it fails three times, the same function as an ordinary one, which may fail for minutes."""
        try:
            answer: Answer = await workflow.execute_local_activity(
                name,
                request.model_copy(update={"now": self._now()}),
                result_type=Answer,
                schedule_to_close_timeout=timedelta(seconds=5),
                retry_policy=LOCAL_TRIES,
                summary=step_summary(request.step, self._journey.state),
            )
            return answer.root
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            return await self._remote(name, request, contracts.JOURNEYS_QUEUE)

    async def _remote(
        self, name: str, request: StepInput, queue: str, *, heartbeat: bool = False, priority: Priority = Priority.default
    ) -> Outcome:
        try:
            answer: Answer = await workflow.execute_activity(
                name,
                request,
                result_type=Answer,
                task_queue=queue,
                schedule_to_close_timeout=AT_MOST,
                # Above the sum of the SMTP time-outs; a dead worker is noticed by its heartbeat much earlier.
                start_to_close_timeout=timedelta(minutes=5),
                heartbeat_timeout=HEARTBEAT if heartbeat else None,
                retry_policy=TRIES,
                priority=priority,
                summary=step_summary(request.step, self._journey.state),
            )
            return answer.root
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            code, cause = said_no(error), error.cause
            final = isinstance(cause, ApplicationError) and cause.non_retryable
            return Failed(code or "unavailable", final, self._now() + self._clock.worldly(ASK_AGAIN if code else LOST))

    async def _rest(self, rest: Rest) -> Outcome | None:
        """Waits until the moment or until disturbed. One long-lived timer per wait: a nudge does not restart it."""
        self._show(rest)
        if self._too_long():
            await workflow.wait_condition(workflow.all_handlers_finished)
            workflow.continue_as_new(self._start.model_copy(update={"state": self._journey.state}))
        until = rest.until
        if self._resumed and until <= self._now():
            until = self._now() + SPREAD * workflow.random().random()
        self._resumed = False
        timer = self._timer_for(until, rest.step)
        await workflow.wait_condition(lambda: timer.done() or self._journey.disturbed or self._ended)
        return Woken() if timer.done() and not self._journey.disturbed and not self._ended else None

    def _timer_for(self, until: datetime, step: str) -> asyncio.Task[None]:
        if self._timer is not None and self._timer_until == until and not self._timer.cancelled():
            return self._timer
        if self._timer is not None:
            self._timer.cancel()
        span = max(self._clock.real(until - self._now()), timedelta(0))
        self._timer = asyncio.create_task(workflow.sleep(span, summary=timer_summary(step, until)))
        self._timer_until = until
        return self._timer

    def _too_long(self) -> bool:
        info = workflow.info()
        return info.get_current_history_length() >= EVENTS_A_RUN or info.is_continue_as_new_suggested()

    def _show(self, rest: Rest) -> None:
        """What ops see: search attributes (one event) where they change, and details (no event)."""
        state = self._journey.state
        step = self._journey.graph.step(rest.step)
        waits_for = f"postponed: {state.why}" if rest.postponed else waiting_for(step)
        wanted: list[tuple[SearchAttributeKey[str], str]] = [
            (STEP, rest.step),
            (WAITING_FOR, waits_for),
            (STAGE, state.stage),
        ]
        known = workflow.info().typed_search_attributes
        changed = [key.value_set(value) for key, value in wanted if known.get(key) != value]
        if changed:
            workflow.upsert_search_attributes(changed)
        workflow.set_current_details(details(self._journey, rest))

    def _input(
        self, step: str, plan: Settling | Ending | None, woke: Settling | None = None, visit: int = 1, *, sheltered: bool = False
    ) -> StepInput:
        return StepInput(
            entry=self._start.entry, step=step, turn=self._journey.state.turn, visit=visit, plan=plan, woke=woke,
            sheltered=sheltered, clock=self._start.clock,
        )  # fmt: skip

    def _now(self) -> datetime:
        return self._clock.world(workflow.now().astimezone(UTC))

    @property
    def _ended(self) -> bool:
        return self._journey.state.phase == "ended"

    # What others say -------------------------------------------------------------------------------------------------

    @workflow.signal(name=contracts.NUDGE)
    def nudge(self, nudged: Nudged) -> None:
        """Something that this entry listens for may have happened; a nudge for another entry is not for us."""
        if nudged.entry == self._start.entry:
            self._journey.hear(nudged.trigger)

    @workflow.update(name=contracts.PAUSE)
    async def pause(self) -> None:
        """Parks the journey; what it hears meanwhile is kept."""
        async with self._steering:
            self._journey.pause()
            await self._tell_gate(paused=True)

    @pause.validator
    def _may_pause(self) -> None:
        if self._journey.state.paused:
            raise ApplicationError("the journey is paused already")

    @workflow.update(name=contracts.RESUME)
    async def resume(self) -> None:
        """Goes on; timers that passed meanwhile fire within a minute."""
        async with self._steering:
            await self._tell_gate(paused=False)
            self._journey.resume()

    @resume.validator
    def _may_resume(self) -> None:
        if not self._journey.state.paused:
            raise ApplicationError("the journey is not paused")

    @workflow.update(name=contracts.END)
    async def end(self, request: EndRequest) -> None:
        """Ends the journey now. A mail that is under way is stopped at the gate before its bytes, if it is not past it."""
        await self._close(request.outcome)
        if not self._ended:
            self._journey.stop(request.outcome, "by-hand")

    @workflow.query(name=contracts.WHERE)
    def where(self) -> Where:
        state = self._journey.state
        return Where(
            step=state.step, phase=state.phase, until=state.until, paused=state.paused, outcome=state.outcome,
            visits=state.visits,
        )  # fmt: skip

    async def _close(self, outcome: str) -> None:
        """Writes an end that is none of the scenario's, however long the database is away."""
        while isinstance(await self._local(contracts.FINISH, self._input("end", Ending(outcome))), Failed):
            await workflow.sleep(ASK_AGAIN)

    async def _tell_gate(self, *, paused: bool) -> None:
        workflow.upsert_search_attributes([PAUSED.value_set(paused)])
        await workflow.execute_local_activity(
            contracts.PAUSE_JOURNEY,
            PauseInput(entry=self._start.entry, paused=paused),
            schedule_to_close_timeout=timedelta(minutes=1),
        )
