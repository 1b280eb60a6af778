"""The ledger of deliveries: one row per mail to a lead, and the few moves that it can make (DESIGN §8).

    (none) ──► claimed ──► data ──► sent
                 ▲ │         │ └──► refused
                 │ ▼         ▼
              postponed   unknown ──► sent   (the attempt that was given up for dead was alive after all)

Whatever ends a mail that is not sent, ends it `refused`; one that an earlier attempt may have sent all the same, `unknown`.

A claim takes the next attempt number. Entering `data` is a compare-and-set on that number, committed just before the
message's bytes: of two attempts of one mail only one gets there. An attempt that finds `data` left by a dead one cannot
know whether the mail went out; the policy says what then: `hold` never sends twice, `retry` sends at most once more,
with the same Message-ID.

What a row's next values are is decided here, by plain functions; who writes them is another matter: journeys write one
row (`activities.mail`), broadcasts many at once (`mebae.mail.bulk`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple, Protocol

from sqlalchemy import Table, bindparam, update
from sqlmodel import Session, select

from mebae.clock import WorldClock
from mebae.contracts import StepInput
from mebae.mail.message import message_id
from mebae.resting import Place
from mebae.store.among import among
from mebae.store.suppressions import salt_of
from mebae.store.tables import Delivery
from mebae.store.traits import clean_text
from mebae.words import DeliveryKind, DeliveryStatus

Policy = Literal["hold", "retry"]
Move = Mapping[str, Any]
"""New values of a delivery's row, by column; empty: it stays as it is."""

BACK_OFF = [timedelta(minutes=m) for m in (1, 5, 15, 60, 120, 240)]
"""After each failure for now; the last one repeats. RFC 5321 §4.5.4.1 asks for 30 minutes on the whole."""
GIVE_UP_AFTER = timedelta(hours=72)
"""Since the first attempt that the mail server turned away."""
RETRIED = "retried-after-unknown"
"""While it stands with a row, an attempt of unknown fate is behind it."""
DIED = "attempt-died-in-data"
_RAW = 500
"""Characters that are kept of what a server said."""


class Reasoned(Protocol):
    """Of a row only why it stands where it stands."""

    @property
    def reason(self) -> str | None: ...


class Held(Reasoned, Protocol):
    """What of a row decides its next move: the row itself, or those columns of it."""

    @property
    def status(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def failures(self) -> int: ...
    @property
    def first_claimed_at(self) -> datetime | None: ...


@dataclass(frozen=True)
class Fate:
    """What came of an attempt: the code for Temporal, the raw words for the ledger alone."""

    kind: Literal["sent", "refused", "unknown", "later"]
    code: str = ""
    raw: str | None = None
    forms: tuple[str, ...] = ()
    rest: timedelta | None = None
    """How long the server asked to be left alone (machine time)."""


class Concluded(NamedTuple):
    """What a row becomes by an attempt's fate."""

    status: DeliveryStatus | None
    """None: a later attempt speaks for this mail."""
    move: Move
    why: str = ""
    until: datetime | None = None


# The moves -----------------------------------------------------------------------------------------------------------


def take_up(held: Held, *, mark: int, policy: Policy, now: datetime, by_hand: bool = False) -> Move:
    """A new attempt asks for the mail: claimed, or unknown after one that died in `data`; empty where all is said of it.

    `by_hand`: a person wants it sent again although nobody knows whether it went out.
    """
    reason = held.reason
    match held.status:
        case DeliveryStatus.UNKNOWN | DeliveryStatus.DATA if by_hand:
            reason = RETRIED
        case DeliveryStatus.DATA:
            if policy == "hold" or reason == RETRIED:
                return {"status": DeliveryStatus.UNKNOWN, "reason": DIED}
            reason = RETRIED
        case DeliveryStatus.CLAIMED | DeliveryStatus.POSTPONED:
            pass
        case _:
            return {}
    return {
        "status": DeliveryStatus.CLAIMED,
        "reason": reason,
        "attempt": held.attempt + 1,
        "claimed_at": now,
        "next_at": None,
        # The 72 hours are the mail server's, not those of a pause before it was first asked.
        "first_claimed_at": held.first_claimed_at if held.failures else now,
        # What came after an attempt that may have sent it is an answer to it already.
        **({} if reason == RETRIED else {"mark": mark}),
    }


def conclude(
    held: Held,
    attempt: int,
    fate: Fate,
    *,
    policy: Policy,
    clock: WorldClock | None = None,
    now: datetime,
    gone: str | None = None,
    by_hand: bool = False,
) -> Concluded:
    """What comes of an attempt's fate.

    Args:
        clock: a real server's back-off takes real time, and so that much more of a faster world's.
        gone: why there is nobody to try again for, as a code.
        by_hand: a person sent it again, who takes the server's no for the answer.
    """
    if held.attempt != attempt or held.status not in (DeliveryStatus.CLAIMED, DeliveryStatus.DATA):
        return Concluded(None, _late_word(held, attempt, fate, now))
    kind, reason, forms = fate.kind, held.reason, list(fate.forms)
    world = clock or WorldClock()
    over = now - (held.first_claimed_at or now) >= world.worldly(GIVE_UP_AFTER)
    if kind == "unknown" and policy == "retry" and reason != RETRIED and gone is None and not over:
        kind, reason = "later", RETRIED
    match kind:
        case "sent":
            return Concluded(DeliveryStatus.SENT, {**sent(fate.raw, now), "forms": forms})
        case "unknown":
            move: Move = {"status": DeliveryStatus.UNKNOWN, "reason": fate.code, "raw": _cut(fate.raw), "forms": forms}
            return Concluded(DeliveryStatus.UNKNOWN, move, fate.code)
        case "refused":
            move = refused(fate.code, fate.raw) if by_hand else no_more(held, fate.code, fate.raw)
            return Concluded(move["status"], {**move, "forms": forms}, fate.code)
    if gone is not None:
        move = no_more(held, gone, fate.raw)
        return Concluded(move["status"], move, gone)
    failures = held.failures + 1
    if over:
        move = no_more(held, "gave-up", fate.raw)
        return Concluded(move["status"], {**move, "failures": failures}, "gave-up")
    until = now + world.worldly(max(back_off(failures), fate.rest or timedelta(0)))
    move = {**postponed(reason, until, fate.code, fate.raw), "failures": failures}
    return Concluded(DeliveryStatus.POSTPONED, move, fate.code, until)


def _late_word(held: Held, attempt: int, fate: Fate, now: datetime) -> Move:
    """Another attempt has answered for this mail, or is under way: only what is certain may still be learnt of this one.

    That the server took it is true even of an attempt that was given up for dead, and then a later one need not send any
    more, unless it is in `data` already: it speaks for itself.
    """
    if fate.kind == "sent" and held.status not in (DeliveryStatus.SENT, DeliveryStatus.DATA):
        return {**sent(fate.raw, now), "forms": list(fate.forms)}
    if fate.kind == "refused" and held.attempt == attempt and held.status == DeliveryStatus.UNKNOWN:
        return refused(fate.code, fate.raw)
    return {}


def sent(raw: str | None, now: datetime) -> Move:
    """The server took it."""
    return {"status": DeliveryStatus.SENT, "sent_at": now, "raw": _cut(raw), "reason": None, "next_at": None}


def refused(why: str, raw: str | None = None) -> Move:
    """Never again, and never before: see `no_more`. The server's words are kept."""
    return {"status": DeliveryStatus.REFUSED, "reason": why, "raw": _cut(raw), "next_at": None}


def no_more(held: Reasoned, why: str, raw: str | None = None) -> Move:
    """No further attempt: the mail is refused, or unknown where an earlier attempt may have sent it. `why` says in both cases
    what ended it."""
    if held.reason != RETRIED:
        return refused(why, raw)
    return {"status": DeliveryStatus.UNKNOWN, "reason": why, "raw": _cut(raw), "next_at": None}


def postponed(reason: str | None, until: datetime, why: str, raw: str | None = None) -> Move:
    """Not now; claimed again at `until`. `reason`: the row's own, which stays where it says that the mail may be out once."""
    return {
        "status": DeliveryStatus.POSTPONED,
        "next_at": until,
        "reason": RETRIED if reason == RETRIED else why,
        "raw": _cut(raw),
    }


def back_off(failures: int) -> timedelta:
    """How long to leave the mail server alone after so many failures in a row (machine time)."""
    return BACK_OFF[min(failures, len(BACK_OFF)) - 1]


def _cut(raw: str | None) -> str | None:
    """What is kept of it. Servers answer in any charset, and with NUL: what no database can keep is cleaned away."""
    return clean_text(raw[:_RAW]) if raw else None


# Writing them --------------------------------------------------------------------------------------------------------


def claim(
    session: Session,
    place: Place,
    request: StepInput,
    *,
    kind: DeliveryKind,
    mail: str,
    piece: str | None = None,
    domain: str,
    policy: Policy,
    now: datetime,
) -> Delivery:
    """A journey's delivery, claimed for a new attempt where it may be tried; else as it stands (sent, refused, unknown)."""
    row = find(session, request)
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
            piece=piece,
            message_id=message_id(request.entry, request.step, request.visit, domain, salt=salt_of(session)),
            status=DeliveryStatus.CLAIMED,
        )
        session.add(row)
    write(row, take_up(row, mark=place.lead.last_seq, policy=policy, now=now))
    session.flush()
    return row


def find(session: Session, request: StepInput) -> Delivery | None:
    """The delivery of a journey's step, if an attempt has claimed it before."""
    return session.exec(
        select(Delivery).where(
            Delivery.entry == request.entry, Delivery.step == request.step, Delivery.visit == request.visit
        )
    ).first()


def write(row: Delivery, move: Move) -> None:
    """Writes a move on a row that the session holds, under its lead's lock."""
    for name, value in move.items():
        setattr(row, name, value)


def enter_data(session: Session, attempts: Sequence[tuple[int, int]], now: datetime) -> set[int]:
    """The compare-and-set before the messages' bytes, row by row. Of (delivery, attempt) pairs the deliveries that may go:
    each is true for one attempt only, once the transaction is committed."""
    by_attempt: dict[int, list[int]] = {}
    for delivery, attempt in attempts:
        by_attempt.setdefault(attempt, []).append(delivery)
    entered: set[int] = set()
    for attempt, deliveries in by_attempt.items():
        values = {"ids": deliveries, "tried": attempt, "at": now}
        entered |= {row[0] for row in session.connection().execute(_ENTER, values)}
    return entered


_TABLE: Table = Delivery.__table__  # type: ignore[attr-defined]
_ENTER = (
    update(_TABLE)
    .where(
        among(_TABLE.c.id, "ids"),
        _TABLE.c.attempt == bindparam("tried"),
        _TABLE.c.status == DeliveryStatus.CLAIMED,
    )
    .values(status=DeliveryStatus.DATA, data_at=bindparam("at"))
    .returning(_TABLE.c.id)
)
"""Made once: it is on the way of every mail."""
