"""Addresses that the mail server refuses in the session itself: a bounce without a report.

A relay that knows its recipients, or the receiver's own server, says `550 5.1.1 User unknown` at once. That is as good as a
DSN: the address is suppressed. But the session is also where a server turns us away, for our sender, our network or our
settings, and in the same codes; so only words and codes count here that speak of the mailbox or its domain for certain.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlmodel import Session, col, select

from mebae.events import BY_VERB
from mebae.mail.bounce_reasons import Reason, reason_of
from mebae.mail.composing import has_moved
from mebae.mail.prose_reports import status_in
from mebae.store import suppressions
from mebae.store.ingest import EventLog
from mebae.store.tables import Delivery, Lead
from mebae.words import DeliveryKind, DeliveryStatus

CERTAIN = frozenset({Reason.MAILBOX_UNKNOWN, Reason.MAILBOX_DISABLED, Reason.DOMAIN_UNKNOWN, Reason.MOVED})
"""Reasons that no server gives for a fault of ours."""


def refused_at_the_door(session: Session, deliveries: Mapping[int, str], now: datetime) -> int:
    """Suppresses the addresses of those mails that the server refused because of the address; how many. The leads are locked.

    `deliveries`: each with the address that was refused; a lead that has another one now keeps that.
    """
    session.flush()
    rows = session.exec(
        select(Delivery, Lead)
        .join(Lead, col(Lead.id) == col(Delivery.lead_id))
        .where(
            # Unknown: an earlier attempt may have sent it (`ledger.no_more`), and yet the server knows the address no more.
            col(Delivery.id).in_(deliveries), col(Delivery.status).in_((DeliveryStatus.REFUSED, DeliveryStatus.UNKNOWN)),
            Delivery.kind == DeliveryKind.MARKETING, col(Delivery.bounce).is_(None), col(Lead.email).is_not(None),
        )
        .order_by(col(Delivery.id))
        .execution_options(populate_existing=True)
    ).all()  # fmt: skip
    log, gone = EventLog(now), 0
    for row, lead in rows:
        said = row.raw or ""
        status = status_in(said)
        reason = reason_of(status, said)
        if status is None or status[0] != "5" or reason not in CERTAIN or lead.email is None:
            continue
        if has_moved(deliveries[row.id or 0], lead.email):
            continue
        row.bounce, row.bounced_at = "hard", now
        suppressions.add(session, lead.email, "hard-bounce", now, delivery_id=row.id)
        of = "scenario" if row.broadcast_id is None else "broadcast"
        told = {"mail": row.mail, of: row.scope, "bounce": "hard", "reason": reason.value, "status": status}
        log.add(lead, f"email-bounced:{row.id}:hard", BY_VERB["bounced"].name, told)
        gone += 1
    if gone:
        log.write(session)
    return gone
