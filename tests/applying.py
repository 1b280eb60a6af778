"""What the worker does with requests that the server kept, in one call: for tests that post and then look."""

from __future__ import annotations

from mebae.applier import Applied, apply_once
from mebae.clock import WorldClock
from mebae.store.database import Database


def apply_all(database: Database, clock: WorldClock | None = None) -> Applied:
    """Applies everything that was kept."""
    total = Applied()
    while (done := database.write_now(apply_once, clock=clock or WorldClock())).requests:
        total.requests += done.requests
        total.events += done.events
        for reason, count in done.quarantined.items():
            total.quarantined[reason] = total.quarantined.get(reason, 0) + count
    return total
