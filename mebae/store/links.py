"""Where tracked links lead: written with the mail that carries them, looked up at a click."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping

from sqlalchemy import Pool, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session

from mebae.store.tables import Link

REMEMBERED = 50_000
"""Numbers of stored links that a process knows, so that the links which all mails carry cost it nothing."""

_lock = threading.Lock()
_stored: weakref.WeakKeyDictionary[Pool, OrderedDict[int, None]] = weakref.WeakKeyDictionary()


def store_links(session: Session, links: Mapping[int, str], own: Mapping[int, int] | None = None) -> None:
    """Stores what `MailLinks.links` holds, once. Call it in a transaction that is committed before the mail is out.

    What this process has stored before costs no statement. `own`: of the links that are one delivery's alone (`MailLinks.own`), which.
    """
    own = own or {}
    engine = session.get_bind().engine
    with _lock:
        known = _stored.setdefault(engine.pool, OrderedDict())
        fresh = sorted(number for number in links if number not in known)  # in order: two transactions must not cross
    if not fresh:
        return
    insert = sqlite.insert if engine.dialect.name == "sqlite" else postgresql.insert
    statement = insert(Link).on_conflict_do_nothing(index_elements=["id"])
    session.execute(statement, [{"id": number, "url": links[number], "delivery_id": own.get(number)} for number in fresh])

    @event.listens_for(session, "after_commit", once=True)
    def _remember(_session: Session) -> None:
        # Only now: had the transaction failed, the next mail with these links would go out without them.
        with _lock:
            known.update(dict.fromkeys(number for number in fresh if number not in own))  # those come once
            while len(known) > REMEMBERED:
                known.popitem(last=False)


def target(session: Session, number: int) -> str | None:
    """Where a link leads; empty if its lead was erased, None if there is no such link."""
    link = session.get(Link, number)
    return link.url if link is not None else None


def is_own(session: Session, number: int) -> bool:
    """Whether it is one delivery's alone, and so holds values of a lead."""
    link = session.get(Link, number)
    return link is not None and link.delivery_id is not None
