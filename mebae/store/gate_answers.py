"""What the gate said, and for how long that is kept (`MEBAE_GATE_DAYS`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial

from sqlmodel import Session, col, delete, select

from mebae.periodic import Mark, Work
from mebae.store.database import Database
from mebae.store.tables import Delivery, GateRow
from mebae.words import DeliveryStatus

UNDER_WAY = (DeliveryStatus.CLAIMED, DeliveryStatus.DATA, DeliveryStatus.POSTPONED, DeliveryStatus.UNKNOWN)
"""Of these mails somebody may still ask why they do not go, or whether they did: their answers stay."""
AT_ONCE = 500


def pruning(days: float) -> Work:
    """The job that removes answers older than so many days; with 0 none. What became of a mail, and why, stays with the mail."""
    return partial(_prune_all, days)


def prune(session: Session, after: int, before: datetime, most: int) -> tuple[int | None, int]:
    """Of the next `most` answers by number those that are older than `before`, but for mails under way, are removed.

    Returns where to go on, or None when what follows is younger; and how many were removed. By number and not by time, because they
    come in its order and the table is large.
    """
    query = select(GateRow.id, GateRow.delivery_id, GateRow.asked_at).where(col(GateRow.id) > after).order_by(col(GateRow.id))
    found = session.exec(query.limit(most)).all()
    old = [(id, delivery) for id, delivery, asked_at in found if asked_at < before]
    if not old:
        return None, 0
    deliveries = {delivery for _, delivery in old if delivery is not None}
    going = set(
        session.exec(select(Delivery.id).where(col(Delivery.id).in_(deliveries), col(Delivery.status).in_(UNDER_WAY)))
    )
    gone = [id for id, delivery in old if delivery not in going]
    if gone:
        session.execute(delete(GateRow).where(col(GateRow.id).in_(gone)))
    return found[-1][0], len(gone)


def _prune_all(days: float, database: Database, now: Callable[[], datetime], mark: Mark | None = None, /) -> Iterator[Mark]:
    at = mark or Mark(counts={"removed": 0})
    after = int(at.place.get("after", 0))
    while days:
        going_on, removed = database.write_now(prune, after, now() - timedelta(days=days), AT_ONCE)
        if going_on is None:
            return
        after, at.place = going_on, {"after": going_on}
        at.counts["removed"] += removed
        yield at
