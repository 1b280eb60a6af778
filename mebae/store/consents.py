"""The record that a lead agreed to get mail: who, when, how, and the words that it was shown."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import delete, func, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, or_, select

from mebae.mailing import BASES
from mebae.store.tables import Consent, Delivery, Lead, UtcDateTime
from mebae.words import DeliveryKind

LONGEST_WORDING = 10_000
"""Characters that are kept of the words shown."""
LONGEST_NAME = 255
BY_ITSELF = "form"
"""How a consent is given by the lead itself: it ticked a box. Such a one lifts an unsubscribe of before."""


class Given(NamedTuple):
    """One consent, to be recorded."""

    lead_id: int
    given_at: datetime
    how: str
    """`form`, `import`, `api`, `business-card` …"""
    source: str
    """Which form, list or system."""
    wording: str
    """As it was shown; empty if nobody knows."""
    cause: str
    """The message id or row that brought it: recorded once per cause."""
    basis: str = ""
    """One of `mebae.mailing.BASES`; by `how` if it is left out."""


_EXEMPTIONS = {
    "名刺": "business-card", "名刺交換": "business-card", "取引": "dealings", "取引関係": "dealings", "取引先": "dealings",
    "公表": "published-address", "公表アドレス": "published-address",
}  # fmt: skip


def basis_of(how: str) -> str:
    """The ground that a record of this kind is: one of the exemptions by its name, else consent.

    >>> basis_of("business-card"), basis_of("form"), basis_of("名刺")
    ('business-card', 'consent', 'business-card')
    """
    word = how.strip().casefold().replace("_", "-").replace(" ", "-")
    return word if word in BASES else _EXEMPTIONS.get(how.strip(), "consent")


def record(
    session: Session, lead_id: int, given_at: datetime, how: str, source: str, wording: str, cause: str, basis: str = ""
) -> None:
    """Records one consent; nothing if this cause brought one before."""
    record_all(session, [Given(lead_id, given_at, how, source, wording, cause, basis)])


def record_all(session: Session, given: Iterable[Given]) -> None:
    """Records many in one statement, each once per cause, whoever else records it at the same time."""
    rows = [
        one._replace(
            how=one.how[:LONGEST_NAME],
            source=one.source[:LONGEST_NAME],
            wording=one.wording[:LONGEST_WORDING],
            basis=one.basis or basis_of(one.how),
        )._asdict()
        for one in given
    ]
    if not rows:
        return
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    session.flush()
    # Sorted, so that two writers of the same causes wait for each other and do not deadlock.
    session.execute(
        insert(Consent).on_conflict_do_nothing(index_elements=["cause"]),
        sorted(rows, key=lambda row: str(row["cause"])),
    )


def withdraw(session: Session, lead_id: int, now: datetime, *, basis: str | None = None) -> int:
    """Takes back the records of a lead, those of one ground or all; how many still held. They are kept, for they were true."""
    statement = update(Consent).where(col(Consent.lead_id) == lead_id, col(Consent.withdrawn_at).is_(None))
    if basis is not None:
        statement = statement.where(col(Consent.basis) == basis)
    session.flush()
    result = session.execute(statement.values(withdrawn_at=now))
    session.expire_all()
    return int(result.rowcount)  # type: ignore[attr-defined]


def purge(session: Session, now: datetime, most: int, *, years: float) -> int:
    """Removes records that nobody needs any more, so many at most; how many.

    A record is kept for so long after the last mail to the lead (特定電子メール法 第3条第2項 wants it kept; its ordinance a month
    from the last mail, or a year after an order). One that still holds, of a lead that may be written to, is kept for ever.
    """
    before = now - timedelta(days=365.25 * years)
    mailed = select(Delivery.id).where(
        col(Delivery.lead_id) == col(Consent.lead_id),
        Delivery.kind == DeliveryKind.MARKETING,
        or_(col(Delivery.sent_at) > before, col(Delivery.data_at) > before),
    )
    over = or_(
        col(Consent.withdrawn_at).is_not(None), col(Lead.erased_at).is_not(None), col(Lead.opted_out_at).is_not(None)
    )
    ended = func.coalesce(col(Consent.withdrawn_at), col(Lead.erased_at), col(Lead.opted_out_at), type_=UtcDateTime())
    ids = session.exec(
        select(Consent.id)
        .join(Lead, col(Lead.id) == col(Consent.lead_id))
        .where(over, col(Consent.given_at) < before, ended < before, ~mailed.exists())
        .order_by(col(Consent.id))
        .limit(most)
    ).all()
    if ids:
        session.execute(delete(Consent).where(col(Consent.id).in_(ids)))
    return len(ids)


def consents_of(session: Session, lead_id: int) -> list[Consent]:
    """What this lead agreed to, oldest first."""
    query = select(Consent).where(Consent.lead_id == lead_id)
    return list(session.exec(query.order_by(col(Consent.given_at), col(Consent.id))).all())
