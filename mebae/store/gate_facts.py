"""Reads what the gate asks about, for many mails at once: one query a table, however many leads."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from sqlmodel import Session, col, func, select

from mebae.gating import GateFacts, OnCap
from mebae.mailing import MailRules
from mebae.store.sales import held_by_sales
from mebae.store.suppressions import hash_of
from mebae.store.tables import Consent, Delivery, Suppression, TopicChoice, UtcDateTime, Workspace
from mebae.timing import first_zone
from mebae.words import DeliveryKind, DeliveryStatus

COUNTED = (DeliveryStatus.CLAIMED, DeliveryStatus.DATA, DeliveryStatus.SENT, DeliveryStatus.UNKNOWN)
"""What counts in the frequency caps: a mail that went out, may have, or has its place already."""


class AskedLead(Protocol):
    """What is asked of a lead: its row, or those columns of it."""

    @property
    def id(self) -> int | None: ...
    @property
    def email(self) -> str | None: ...
    @property
    def time_zone(self) -> str | None: ...
    @property
    def opted_out_at(self) -> datetime | None: ...
    @property
    def erased_at(self) -> datetime | None: ...


class AskedDelivery(Protocol):
    """What is asked of a delivery and kept with the answer: its row, or those columns of it."""

    @property
    def id(self) -> int | None: ...
    @property
    def lead_id(self) -> int: ...
    @property
    def entry(self) -> int | None: ...
    @property
    def step(self) -> str: ...
    @property
    def visit(self) -> int: ...
    @property
    def broadcast_id(self) -> int | None: ...
    @property
    def scope(self) -> str: ...
    @property
    def mail(self) -> str: ...
    @property
    def topic(self) -> str: ...
    @property
    def message_id(self) -> str: ...
    @property
    def attempt(self) -> int: ...


class Grounds(NamedTuple):
    """On what a lead may be written to."""

    bases: tuple[str, ...]
    withdrawn: bool


def gather(
    session: Session,
    asked: Sequence[tuple[AskedLead, AskedDelivery]],
    rules: MailRules,
    zone: str,
    now: datetime,
    *,
    on_cap: OnCap = "postpone",
    sheltered: bool = False,
) -> list[GateFacts]:
    """The facts of each mail to its lead, in their order. The leads are locked, or two mails could take one place of a cap.

    `zone`: the workspace's. `sheltered`: the mail stands in a path that sales itself has opened, and so waits for no hand-over.
    """
    ids = sorted({lead.id for lead, _ in asked if lead.id is not None})
    workspace = session.exec(select(Workspace).execution_options(populate_existing=True)).one()
    grounds = grounds_of(session, ids)
    hashes = {lead.id: hash_of(workspace.address_salt, lead.email) for lead, _ in asked if lead.email}
    suppressed = suppressed_by(session, list(hashes.values()))
    unwanted = _unwanted(session, ids, {delivery.topic for _, delivery in asked})
    counted = counted_in_caps(session, ids, rules, now)
    held = {} if sheltered else held_by_sales(session, ids)
    facts = []
    for lead, delivery in asked:
        assert lead.id is not None
        bases, withdrawn = grounds.get(lead.id, Grounds((), False))
        facts.append(
            GateFacts(
                zone=first_zone(lead.time_zone, zone),
                erased=lead.erased_at is not None,
                has_address=bool(lead.email),
                bases=bases,
                withdrawn=withdrawn,
                opted_out=lead.opted_out_at is not None,
                suppressed=suppressed.get(hashes.get(lead.id, "")),
                topic=delivery.topic,
                wants_topic=(lead.id, delivery.topic) not in unwanted,
                with_sales_since=held.get(lead.id),
                counted=tuple(at for id, at in counted.get(lead.id, ()) if id != delivery.id),
                paused_at=workspace.sending_paused_at,
                on_cap=on_cap,
                key=delivery.message_id,
            )
        )
    return facts


def grounds_of(session: Session, lead_ids: Sequence[int]) -> dict[int, Grounds]:
    """On what grounds each lead may be written to; nothing for one without any record."""
    rows = session.execute(
        select(col(Consent.lead_id), col(Consent.basis), col(Consent.withdrawn_at).is_not(None)).where(
            col(Consent.lead_id).in_(lead_ids)
        )
    )
    holds, withdrawn = defaultdict[int, set[str]](set), set[int]()
    for lead_id, basis, over in rows:
        if over:
            withdrawn.add(lead_id)
        else:
            holds[lead_id].add(basis)
    return {id: Grounds(tuple(sorted(holds[id])), id in withdrawn) for id in {*holds, *withdrawn}}


def suppressed_by(session: Session, hashes: Sequence[str]) -> dict[str, str]:
    """Why each of these is on the suppression list, of those that are."""
    rows = session.execute(
        select(col(Suppression.hash), col(Suppression.reason)).where(col(Suppression.hash).in_(hashes))
    )
    return {row[0]: row[1] for row in rows}


def _unwanted(session: Session, lead_ids: Sequence[int], topics: set[str]) -> set[tuple[int, str]]:
    """The topics, of these, that each lead chose to have no mail of."""
    if topics == {""}:
        return set()
    rows = session.execute(
        select(col(TopicChoice.lead_id), col(TopicChoice.topic)).where(
            col(TopicChoice.lead_id).in_(lead_ids),
            col(TopicChoice.topic).in_(topics),
            col(TopicChoice.wanted).is_(False),
        )
    )
    return {(lead_id, topic) for lead_id, topic in rows}


def counted_in_caps(
    session: Session, lead_ids: Sequence[int], rules: MailRules, now: datetime, *, back: timedelta | None = None
) -> dict[int, list[tuple[int, datetime]]]:
    """Each lead's deliveries that count in the caps, with when, oldest first; as far back as the longest cap looks."""
    back = back or rules.longest
    if back is None:
        return {}
    # When it went out; of one that has its place and did not go yet, when it got it.
    at = func.coalesce(col(Delivery.sent_at), col(Delivery.data_at), col(Delivery.claimed_at), type_=UtcDateTime())
    query = select(col(Delivery.lead_id), col(Delivery.id), at).where(
        col(Delivery.lead_id).in_(lead_ids),
        Delivery.kind == DeliveryKind.MARKETING,
        col(Delivery.status).in_(COUNTED),
        at > now - back,
    )
    if exempt := [topic.id for topic in rules.topics if not rules.is_capped(topic.id)]:
        query = query.where(col(Delivery.topic).not_in(exempt))
    found: dict[int, list[tuple[int, datetime]]] = {}
    for lead_id, id, moment in session.execute(query.order_by(at)):
        found.setdefault(lead_id, []).append((id, moment))
    return found
