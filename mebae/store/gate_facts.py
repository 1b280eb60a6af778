"""Reads what the gate asks about, for many mails at once: in one query, however many leads.

The gate is asked twice for every mail, so this is on the way of each: the query is put together once, and goes past the
objects of the session. As a query a table, made anew each time, it took four times as long.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Protocol

from sqlalchemy import (
    BigInteger,
    CompoundSelect,
    Select,
    String,
    bindparam,
    cast,
    func,
    literal,
    null,
    select,
    union_all,
)
from sqlmodel import Session, SQLModel

from mebae.gating import GateFacts, OnCap
from mebae.handover import UNDER_WAY
from mebae.mailing import MailRules
from mebae.store.among import among, fixed, not_among
from mebae.store.sales import held_by_sales
from mebae.store.suppressions import hash_of, salt_of
from mebae.store.tables import UtcDateTime
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
    if not asked:
        return []
    salt = salt_of(session)
    hashes = {lead.id: hash_of(salt, lead.email) for lead, _ in asked if lead.email}
    read = _read(
        session,
        sorted({lead.id for lead, _ in asked if lead.id is not None}),
        list(hashes.values()),
        {delivery.topic for _, delivery in asked},
        rules,
        now,
    )
    held = {} if sheltered else held_by_sales(session, read.with_sales)
    facts = []
    for lead, delivery in asked:
        assert lead.id is not None
        facts.append(
            GateFacts(
                zone=first_zone(lead.time_zone, zone),
                erased=lead.erased_at is not None,
                has_address=bool(lead.email),
                bases=tuple(sorted(read.bases[lead.id])) if lead.id in read.bases else (),
                withdrawn=lead.id in read.withdrawn,
                opted_out=lead.opted_out_at is not None,
                suppressed=read.suppressed.get(hashes.get(lead.id, "")),
                topic=delivery.topic,
                wants_topic=(lead.id, delivery.topic) not in read.unwanted,
                with_sales_since=held.get(lead.id),
                counted=tuple(at for id, at in read.counted.get(lead.id, ()) if id != delivery.id),
                paused_at=read.paused_at,
                on_cap=on_cap,
                key=delivery.message_id,
            )
        )
    return facts


class _Read:
    """The rows of the one query, sorted into what they tell."""

    def __init__(self) -> None:
        self.bases = defaultdict[int, set[str]](set)
        self.withdrawn = set[int]()
        self.suppressed: dict[str, str] = {}
        self.unwanted = set[tuple[int, str]]()
        self.with_sales: list[tuple[int, str, datetime]] = []
        self.counted: dict[int, list[tuple[int, datetime]]] = {}
        self.paused_at: datetime | None = None


def _read(
    session: Session,
    ids: Sequence[int],
    hashes: Sequence[str],
    topics: Collection[str],
    rules: MailRules,
    now: datetime,
) -> _Read:
    session.flush()  # the query goes past the session, and must see what this transaction has done
    values = {"ids": ids, "hashes": hashes, "topics": sorted(topics), **_window(rules, now)}
    read = _Read()
    for what, lead_id, word, other, number, at in session.connection().execute(_facts(bool(rules.caps)), values).all():
        match what:
            case "ground" if at is None:
                read.bases[lead_id].add(word)
            case "ground":
                read.withdrawn.add(lead_id)
            case "suppressed":
                read.suppressed[other] = word
            case "unwanted":
                read.unwanted.add((lead_id, word))
            case "sales":
                read.with_sales.append((lead_id, word, at))
            case "counted":
                read.counted.setdefault(lead_id, []).append((number, at))
            case _:
                read.paused_at = at
    return read


def counted_in_caps(
    session: Session, lead_ids: Sequence[int], rules: MailRules, now: datetime
) -> dict[int, list[tuple[int, datetime]]]:
    """Each lead's deliveries that count in the caps, with when, oldest first; as far back as the longest cap looks."""
    if not rules.caps:
        return {}
    session.flush()
    found: dict[int, list[tuple[int, datetime]]] = {}
    rows = session.connection().execute(_counted(), {"ids": lead_ids, **_window(rules, now)})
    for _, lead_id, _, _, number, at in rows:
        found.setdefault(lead_id, []).append((number, at))
    return {lead_id: sorted(its, key=lambda one: (one[1], one[0])) for lead_id, its in found.items()}


def _window(rules: MailRules, now: datetime) -> dict[str, Any]:
    """From when on mails count, and those of which topics do not."""
    if rules.longest is None:
        return {}
    return {"since": now - rules.longest, "exempt": [one.id for one in rules.topics if not rules.is_capped(one.id)]}


# The query ------------------------------------------------------------------------------------------------------------


@cache
def _facts(caps: bool) -> CompoundSelect[Any]:
    """Rows of (what, lead, word, other word, number, time)."""
    tables = SQLModel.metadata.tables
    consents, suppressions, choices = tables["consents"], tables["suppressions"], tables["topic_choices"]
    handovers, workspace = tables["handovers"], tables["workspace"]
    parts = [
        _row("paused", at=workspace.c.sending_paused_at).where(workspace.c.sending_paused_at.is_not(None)),
        _row("ground", consents.c.lead_id, consents.c.basis, at=consents.c.withdrawn_at).where(
            among(consents.c.lead_id, "ids")
        ),
        _row("suppressed", word=suppressions.c.reason, other=suppressions.c.hash).where(
            among(suppressions.c.hash, "hashes")
        ),
        _row("unwanted", choices.c.lead_id, choices.c.topic).where(
            among(choices.c.lead_id, "ids"), among(choices.c.topic, "topics"), choices.c.wanted.is_(False)
        ),
        _row("sales", handovers.c.lead_id, handovers.c.status, at=handovers.c.opened_at).where(
            among(handovers.c.lead_id, "ids"), fixed(handovers.c.status, UNDER_WAY)
        ),
    ]
    return union_all(*parts, *([_counted()] if caps else []))


@cache
def _counted() -> Select[Any]:
    mails = SQLModel.metadata.tables["deliveries"]
    # When it went out; of one that has its place and did not go yet, when it got it.
    at = func.coalesce(mails.c.sent_at, mails.c.data_at, mails.c.claimed_at, type_=UtcDateTime())
    return _row("counted", mails.c.lead_id, number=mails.c.id, at=at).where(
        among(mails.c.lead_id, "ids"),
        mails.c.kind == DeliveryKind.MARKETING.value,
        fixed(mails.c.status, COUNTED),
        at > bindparam("since", type_=UtcDateTime()),
        not_among(mails.c.topic, "exempt"),
    )


def _row(
    what: str, lead: Any = None, word: Any = None, *, other: Any = None, number: Any = None, at: Any = None
) -> Select[Any]:
    def of(value: Any, kind: Any) -> Any:
        return cast(null(), kind) if value is None else value

    return select(
        literal(what, String).label("what"), of(lead, BigInteger).label("lead"), of(word, String).label("word"),
        of(other, String).label("other"), of(number, BigInteger).label("number"), of(at, UtcDateTime).label("at"),
    )  # fmt: skip
