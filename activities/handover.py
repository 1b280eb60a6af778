"""What the workflow of a hand-over calls: it looks at the clock, and does what is due."""

from __future__ import annotations

from temporalio import activity

from activities.calling import coded
from mebae import contracts, handing
from mebae.clock import WorldClock
from mebae.contracts import HandoverInput, HandoverTended
from mebae.resting import Setting
from mebae.store.database import Database


class HandoverActivities:
    """The clocks of hand-overs."""

    def __init__(self, database: Database, setting: Setting) -> None:
        self._database, self._setting = database, setting

    @activity.defn(name=contracts.TEND_HANDOVER)
    @coded
    async def tend_handover(self, request: HandoverInput) -> HandoverTended:
        """Reminds, escalates or expires if it is time, once, and says when to look again."""
        now = (request.clock or WorldClock()).world(activity.info().started_time)
        at = self._setting
        tended = await self._database.write(handing.tend, request.handover, now, at.zone, at.calendar)
        return HandoverTended(over=tended.over, until=tended.until, did=tended.did)
