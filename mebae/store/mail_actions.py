"""Opens and clicks as they came in, their judging, and the events that become of them.

An action waits until it is old enough that its neighbours are known (`mebae.verdicts.Tuning.wait`). Then it gets its verdict
and its event in one transaction, so that a worker that dies judges nothing twice and several share the work.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import and_, insert, or_, update
from sqlmodel import Session, col, select

from mebae.events import BY_VERB
from mebae.store.ingest import EventLog
from mebae.store.tables import Delivery, Lead, Link, MailAction
from mebae.verdicts import CLICK, OPEN, TRIPPING, Act, Tuning, judge
from mebae.words import DeliveryKind

AT_ONCE = 200
FORGOTTEN_AFTER = timedelta(days=1)
"""When it is forgotten which visitor did something: the hash tells visitors apart while they are judged, and is then of no use."""
AHEAD = timedelta(hours=1)
"""An action dated so far ahead was noted by a server whose clock is wrong."""

_EVENTS = {OPEN: BY_VERB["opened"].name, CLICK: BY_VERB["clicked"].name}


@dataclass(frozen=True)
class NewAction:
    """What a visitor did, as the server read it. See `MailAction`."""

    delivery: int
    kind: str
    client: str
    agent: str
    at: datetime
    link: int | None = None
    method: str = "GET"


def store_actions(session: Session, actions: Sequence[NewAction]) -> int:
    """Stores what came in; how many. What is about a delivery that is no more is left out."""
    wanted = {action.delivery for action in actions}
    known = set(session.exec(select(Delivery.id).where(col(Delivery.id).in_(wanted))))
    rows = [
        {
            "delivery_id": one.delivery, "kind": one.kind, "link_id": one.link, "method": one.method,
            "client": one.client, "agent": one.agent, "at": one.at,
        }
        for one in actions
        if one.delivery in known
    ]  # fmt: skip
    if rows:
        session.execute(insert(MailAction), rows)
    return len(rows)


def waiting(session: Session, before: datetime, most: int = AT_ONCE, aside: Collection[int] = ()) -> list[int]:
    """The oldest that are to be judged. One from the future is due: the server that noted it has a clock that is fast, and to
    wait for that time would be to forget the lead."""
    due = or_(col(MailAction.at) <= before, col(MailAction.at) > before + AHEAD)
    query = select(MailAction.id).where(col(MailAction.judged_at).is_(None), due)
    if aside:
        query = query.where(col(MailAction.id).not_in(aside))
    return [id for id in session.exec(query.order_by(col(MailAction.id)).limit(most)) if id is not None]


def judge_actions(session: Session, ids: Collection[int], now: datetime, tuning: Tuning) -> int:
    """Judges these, writes the events and scores the leads, in one transaction; how many it was. Those that another worker
    has judged or is judging are left to it."""
    rows = session.exec(
        select(MailAction)
        .where(col(MailAction.id).in_(ids), col(MailAction.judged_at).is_(None))
        .order_by(col(MailAction.id))
        .with_for_update(skip_locked=True)
    ).all()
    if not rows:
        return 0
    around = _around(session, rows, tuning)
    deliveries = _deliveries(session, {row.delivery_id for row in around})
    acts = [_act(row, deliveries[row.delivery_id]) for row in around]
    verdicts = judge(acts, tuning=tuning, tripped=_tripped(session, rows, tuning))
    for row in rows:
        assert row.id is not None
        row.verdict, row.why = verdicts[row.id]
        row.judged_at = now
    _tell(session, rows, deliveries, now)
    return len(rows)


def judge_all(session: Session, now: datetime, tuning: Tuning) -> int:
    """Everything that is old enough, in one transaction; for tests and commands."""
    return judge_actions(session, waiting(session, now - tuning.wait, 1_000_000), now, tuning)


def forget_clients(session: Session, now: datetime, most: int) -> int:
    """Takes from old actions which visitor it was; how many. For the daily job."""
    old = select(MailAction.id).where(
        MailAction.at < now - FORGOTTEN_AFTER, MailAction.client != "", col(MailAction.judged_at).is_not(None)
    )
    ids = session.exec(old.order_by(col(MailAction.id)).limit(most)).all()
    if ids:
        session.execute(update(MailAction).where(col(MailAction.id).in_(ids)).values(client=""))
    return len(ids)


# What is around -------------------------------------------------------------------------------------------------------


def _around(session: Session, rows: Sequence[MailAction], tuning: Tuning) -> Sequence[MailAction]:
    """The actions themselves, and all others that bear on them."""
    first, last = min(row.at for row in rows), max(row.at for row in rows)
    until = last + tuning.wait
    mails = {row.delivery_id for row in rows}
    clients = {row.client for row in rows if row.client}
    found = session.exec(
        select(MailAction).where(
            or_(
                and_(
                    col(MailAction.delivery_id).in_(mails),
                    col(MailAction.at).between(first - max(tuning.wait, tuning.within), until),
                ),
                and_(col(MailAction.client).in_(clients), col(MailAction.at).between(first, until)),
            )
        )
    ).all()
    return list({row.id: row for row in (*rows, *found)}.values())


def _tripped(session: Session, rows: Sequence[MailAction], tuning: Tuning) -> Mapping[str, list[datetime]]:
    """When these visitors gave themselves away before, by the verdicts of then."""
    first, last = min(row.at for row in rows), max(row.at for row in rows)
    found = session.execute(
        select(MailAction.client, MailAction.at)
        .where(
            col(MailAction.client).in_({row.client for row in rows if row.client}),
            col(MailAction.at).between(first - tuning.ignored_for, last + tuning.wait),
            col(MailAction.why).in_(TRIPPING),
        )
        .distinct()
    )
    times: defaultdict[str, list[datetime]] = defaultdict(list)
    for client, at in found:
        times[client].append(at)
    return times


def _deliveries(session: Session, ids: Iterable[int]) -> dict[int, Delivery]:
    query = select(Delivery).where(col(Delivery.id).in_(set(ids))).execution_options(populate_existing=True)
    found = session.exec(query).all()
    return {row.id: row for row in found if row.id is not None}


def _act(row: MailAction, delivery: Delivery) -> Act:
    assert row.id is not None
    sent_at = delivery.sent_at or delivery.data_at  # a gateway looks at links before it takes the mail
    return Act(
        row.id, row.delivery_id, row.kind, row.link_id, row.method, row.client, row.agent, row.at, sent_at
    )  # fmt: skip


# The events -----------------------------------------------------------------------------------------------------------


def _tell(session: Session, rows: Sequence[MailAction], deliveries: Mapping[int, Delivery], now: datetime) -> None:
    """Writes the events on the leads. The trap is no event, nor is the second half of a double click."""
    told = [row for row in rows if row.kind in _EVENTS and row.why != "repeat"]
    told = [row for row in told if deliveries[row.delivery_id].kind == DeliveryKind.MARKETING]
    leads = _lock(session, {deliveries[row.delivery_id].lead_id for row in told})
    deliveries = _deliveries(session, {row.delivery_id for row in told})  # anew, under the locks
    links = {row.link_id for row in told if row.link_id is not None}
    urls = {link.id: link.url for link in session.exec(select(Link).where(col(Link.id).in_(links)))}
    log = EventLog(now)
    for row in told:
        delivery = deliveries[row.delivery_id]
        lead = leads.get(delivery.lead_id)
        if lead is None or lead.erased_at is not None:
            continue
        properties = {"mail": delivery.mail, "verdict": row.verdict}
        properties["scenario" if delivery.broadcast_id is None else "broadcast"] = delivery.scope
        if row.link_id in urls:
            properties["url"] = urls[row.link_id]
        # Not the number alone: SQLite gives one again when the last rows are deleted.
        at = min(row.at, now)  # a server whose clock is fast dates nothing into the future
        message_id = f"mail-action:{row.id}:{row.delivery_id}:{int(row.at.timestamp() * 1_000_000)}"
        log.add(lead, message_id, _EVENTS[row.kind], properties, at, at)
        if row.verdict == "human":
            delivery.opened_at = min(delivery.opened_at or at, at)
            if row.kind == CLICK:
                delivery.clicked_at = min(delivery.clicked_at or at, at)
    log.write(session)


def _lock(session: Session, ids: Collection[int]) -> dict[int, Lead]:
    """In the order of their ids, as everybody does."""
    query = select(Lead).where(col(Lead.id).in_(ids)).order_by(col(Lead.id)).with_for_update()
    rows = session.exec(query.execution_options(populate_existing=True)).all()
    return {row.id: row for row in rows if row.id is not None}
