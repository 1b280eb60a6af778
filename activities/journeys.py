"""Rest, branch, end: the activities that only look at our database. They run as local activities."""

from __future__ import annotations

from datetime import datetime

from sqlmodel import Session
from temporalio import activity

from activities.calling import coded, world_now
from mebae import contracts, resting
from mebae.contracts import PauseInput, StepInput
from mebae.journey import Chosen, Ended, Ending, Exited, Heard, Passed, Postponed, Resting, Settling
from mebae.resting import Place, Setting
from mebae.store.database import Database
from mebae.store.tables import JourneyRow


class JourneyActivities:
    """What a journey asks about itself."""

    def __init__(self, database: Database, setting: Setting) -> None:
        self._database, self._setting = database, setting

    @activity.defn(name=contracts.REST)
    @coded
    async def rest(self, request: StepInput) -> Resting | Heard | Passed | Postponed | Exited | Ended:
        """Puts the journey to rest, or says how the rest ended."""
        return await self._database.write(_rest, request, world_now(request), self._setting)

    @activity.defn(name=contracts.CHOOSE)
    @coded
    async def choose(self, request: StepInput) -> Chosen | Postponed | Exited | Ended:
        """Finds the first true case of a branch."""
        return await self._database.write(_choose, request, world_now(request), self._setting)

    @activity.defn(name=contracts.FINISH)
    @coded
    async def finish(self, request: StepInput) -> Ended | Exited:
        """Writes the journey's end."""
        return await self._database.write(_finish, request, world_now(request))

    @activity.defn(name=contracts.PAUSE_JOURNEY)
    @coded
    async def pause_journey(self, request: PauseInput) -> None:
        """Tells the gate that the journey is paused, or no longer."""
        await self._database.write(_pause, request)


def _rest(
    session: Session, request: StepInput, now: datetime, at: Setting
) -> Resting | Heard | Passed | Postponed | Exited | Ended:
    place = resting.take(session, request.entry, request.turn, sheltered=request.sheltered)
    if not isinstance(place, Place):
        return place
    assert isinstance(request.plan, Settling)
    early = resting.still_early(session, place, request.woke, now, at)
    return early or resting.settle(session, place, request.plan, now, at)


def _choose(session: Session, request: StepInput, now: datetime, at: Setting) -> Chosen | Postponed | Exited | Ended:
    place = resting.take(session, request.entry, request.turn, sheltered=request.sheltered)
    if not isinstance(place, Place):
        return place
    stop = resting.exited(session, place, now) or resting.still_early(session, place, request.woke, now, at)
    return stop or resting.choose(session, place, request.step, now)


def _finish(session: Session, request: StepInput, now: datetime) -> Ended | Exited:
    place = resting.take(session, request.entry, request.turn, sheltered=request.sheltered)
    if not isinstance(place, Place):
        return place
    assert isinstance(request.plan, Ending)
    return resting.finish(session, place, request.plan.outcome, now)


def _pause(session: Session, request: PauseInput) -> None:
    row = session.get(JourneyRow, request.entry, with_for_update=True)
    if row is not None:
        row.paused = request.paused
