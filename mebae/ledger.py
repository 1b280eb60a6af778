"""The ledger of deliveries: one row per (entry, step, visit), and the few moves that it can make (DESIGN §8).

    (none) ──► claimed ──► data ──► sent
                 ▲ │         │ └──► refused
                 │ ▼         ▼
              postponed   unknown ──► sent   (the attempt that was given up for dead was alive after all)

A claim takes the next attempt number. Entering `data` is a compare-and-set on that number, committed just before the
message's bytes: of two attempts of one mail only one gets there. An attempt that finds `data` left by a dead one cannot
know whether the mail went out; the policy says what then: `hold` never sends twice, `retry` sends at most once more,
with the same Message-ID.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import update
from sqlmodel import Session, col, select

from mebae.contracts import StepInput
from mebae.mail.message import message_id
from mebae.resting import Place
from mebae.store.tables import Delivery
from mebae.words import DeliveryKind, DeliveryStatus

Policy = Literal["hold", "retry"]

BACK_OFF = [timedelta(minutes=m) for m in (1, 5, 15, 60, 120, 240)]
"""After each failure for now; the last one repeats. RFC 5321 §4.5.4.1 asks for 30 minutes on the whole."""
GIVE_UP_AFTER = timedelta(hours=72)
"""Since the first attempt that the mail server turned away."""
RETRIED = "retried-after-unknown"


def claim(
    session: Session,
    place: Place,
    request: StepInput,
    *,
    kind: DeliveryKind,
    mail: str,
    domain: str,
    policy: Policy,
    now: datetime,
) -> Delivery:
    """The delivery's row, claimed for a new attempt where it may be tried; else as it stands (sent, refused, unknown)."""
    row = session.exec(
        select(Delivery).where(
            Delivery.entry == request.entry, Delivery.step == request.step, Delivery.visit == request.visit
        )
    ).first()
    if row is None:
        assert place.lead.id is not None
        row = Delivery(
            entry=request.entry,
            step=request.step,
            visit=request.visit,
            lead_id=place.lead.id,
            kind=kind,
            scope=place.graph.scenario,
            mail=mail,
            message_id=message_id(request.entry, request.step, request.visit, domain),
            status=DeliveryStatus.CLAIMED,
        )
        session.add(row)
    elif row.status == DeliveryStatus.DATA:
        if policy == "hold" or row.reason == RETRIED:
            row.status, row.reason = DeliveryStatus.UNKNOWN, "attempt-died-in-data"
            return row
        row.reason = RETRIED
    elif row.status not in (DeliveryStatus.CLAIMED, DeliveryStatus.POSTPONED):
        return row
    row.status = DeliveryStatus.CLAIMED
    row.attempt += 1
    row.claimed_at, row.next_at = now, None
    if not row.failures:  # the 72 hours are the mail server's, not those of a pause before it was first asked
        row.first_claimed_at = now
    row.mark = place.lead.last_seq
    session.flush()
    return row


def enter_data(session: Session, delivery: int, attempt: int, now: datetime) -> bool:
    """The compare-and-set before the message's bytes: true for one attempt only."""
    result = session.execute(
        update(Delivery)
        .where(
            col(Delivery.id) == delivery,
            col(Delivery.attempt) == attempt,
            col(Delivery.status) == DeliveryStatus.CLAIMED,
        )
        .values(status=DeliveryStatus.DATA, data_at=now)
    )
    return bool(result.rowcount == 1)  # type: ignore[attr-defined]


def sent(row: Delivery, attempt: int, raw: str, now: datetime) -> None:
    """The server took it. True even of an attempt that was given up for dead, and then a later one need not send any more,
    unless it is in `data` already: it speaks for itself."""
    if row.status == DeliveryStatus.SENT or (row.status == DeliveryStatus.DATA and row.attempt != attempt):
        return
    row.status, row.sent_at, row.raw, row.reason, row.next_at = DeliveryStatus.SENT, now, raw[:500], None, None


def refused(row: Delivery, why: str, raw: str | None = None) -> None:
    """Never again, with the server's words kept."""
    row.status, row.reason, row.raw = DeliveryStatus.REFUSED, why, raw[:500] if raw else None


def unknown(row: Delivery, attempt: int, why: str, raw: str | None) -> None:
    """Nobody can say whether the server took it."""
    if row.attempt == attempt and row.status == DeliveryStatus.DATA:
        row.status, row.reason, row.raw = DeliveryStatus.UNKNOWN, why, raw[:500] if raw else None


def postponed(row: Delivery, until: datetime, why: str, raw: str | None = None) -> None:
    """Not now; claimed again at `until`."""
    row.status, row.next_at, row.raw = DeliveryStatus.POSTPONED, until, raw[:500] if raw else None
    if row.reason != RETRIED:
        row.reason = why


def back_off(failures: int) -> timedelta:
    """How long to leave the mail server alone after so many failures in a row (machine time)."""
    return BACK_OFF[min(failures, len(BACK_OFF)) - 1]
