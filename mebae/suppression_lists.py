"""The suppression list as a file: reading that of another tool, writing ours, and saying who stands on it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import func
from sqlmodel import Session, col, select

from mebae.errors import BadInput
from mebae.sheets import Row, readings, value_of, writing
from mebae.store.database import Database
from mebae.store.leads import normalise_email
from mebae.store.suppressions import Reason, add_hashes, hash_of, salt_of
from mebae.store.tables import Lead, Suppression

AT_ONCE = 500
WORDS: Mapping[str, Reason] = {
    "unsubscribed": "unsubscribed", "unsubscribe": "unsubscribed", "opt-out": "unsubscribed", "optout": "unsubscribed",
    "opted-out": "unsubscribed", "配信停止": "unsubscribed", "解除": "unsubscribed", "退会": "unsubscribed",
    "hard-bounce": "hard-bounce", "hardbounce": "hard-bounce", "bounce": "hard-bounce", "bounced": "hard-bounce",
    "不達": "hard-bounce", "エラー": "hard-bounce", "soft-bounces": "soft-bounces",
    "complaint": "complaint", "complained": "complaint", "spam": "complaint", "abuse": "complaint", "苦情": "complaint",
    "by-hand": "by-hand", "imported": "imported", "erased": "erased",
}  # fmt: skip
"""What other tools call the reasons; a cell of a row that says one of them counts for that row."""
_HASH = re.compile(r"[0-9a-f]{64}")


class Line(NamedTuple):
    """One entry, for a list."""

    hash: str
    reason: str
    at: datetime
    address: str | None
    """Of a lead that is known; the list itself has hashes only."""


class Taken(NamedTuple):
    """What became of a file."""

    rows: int
    new: int
    """Entries that were not there, or have a stronger reason now."""
    left_out: Sequence[int]
    """The lines that hold no address."""


def import_list(database: Database, path: Path, now: datetime, *, reason: Reason = "imported", sheet: str | None = None) -> Taken:
    """Puts every address of a file on the list: a CSV or a workbook with an address somewhere in each row, or a line each.

    A cell that says a reason counts for its row. Hashes are taken too, of a file that this workspace wrote. The same file
    again changes nothing. Raises `BadInput` for a file that holds no address at all.
    """
    salt = database.read_now(salt_of)
    rows = new = 0
    left_out: list[int] = []
    batch: dict[Reason, dict[str, str]] = {}
    for row in readings(path, sheet)[0].rows():
        found = _read(row, salt)
        if found is None:
            if row.line > 1:  # the first may be headings
                left_out.append(row.line)
            continue
        rows += 1
        hash, address, said = found
        batch.setdefault(said or reason, {})[hash] = address
        if sum(map(len, batch.values())) >= AT_ONCE:
            new += database.write_now(_put, batch, now)
            batch = {}
    new += database.write_now(_put, batch, now)
    if not rows:
        raise BadInput(f"{path}: holds no address: each row needs one, in whatever column")
    return Taken(rows, new, left_out)


def _read(row: Row, salt: str) -> tuple[str, str, Reason | None] | None:
    """The hash of a row's address, the address itself ("" if it gives the hash), and its reason if it says one."""
    cells = [str(value_of(cell)).strip() for cell in row.cells]
    words = (cell.casefold().replace("_", "-").replace(" ", "-") for cell in cells)
    said = next((WORDS[word] for word in words if word in WORDS), None)
    for cell in cells:
        if "@" in cell:
            try:
                address = normalise_email(cell)
            except BadInput:
                continue
            return hash_of(salt, address), address, said
    known = next((cell.lower() for cell in cells if _HASH.fullmatch(cell.lower())), None)
    return None if known is None else (known, "", said)


def _put(session: Session, batch: Mapping[Reason, Mapping[str, str]], now: datetime) -> int:
    new = 0
    for reason, hashes in batch.items():
        new += add_hashes(session, hashes, reason, now)
        addresses = [address for address in hashes.values() if address]
        if reason == "unsubscribed" and addresses:
            # The person's wish, which holds for whatever address it will have.
            query = select(Lead).where(col(Lead.email).in_(addresses), col(Lead.opted_out_at).is_(None))
            for lead in session.exec(query.order_by(col(Lead.id)).with_for_update()):
                lead.opted_out_at = now
    return new


def export_list(database: Database, path: Path) -> int:
    """Writes the list as CSV or workbook by the file's name: address (where a lead is known), reason, time, hash; how many."""
    count = 0
    with writing(path) as written:
        written.row(["email", "reason", "at", "hash"])
        for line in every_line(database):
            written.row([line.address or "", line.reason, line.at.isoformat(), line.hash])
            count += 1
    return count


def every_line(database: Database) -> Iterator[Line]:
    """The whole list, by hash."""
    names = database.read_now(addresses)
    after = ""
    while page := database.read_now(_page, after):
        for row in page:
            yield Line(row.hash, row.reason, row.at, names.get(row.hash))
        after = page[-1].hash


def newest(session: Session, limit: int, reason: str | None = None) -> list[Line]:
    """The newest entries."""
    query = select(Suppression).order_by(col(Suppression.at).desc(), col(Suppression.hash)).limit(limit)
    if reason is not None:
        query = query.where(Suppression.reason == reason)
    rows = session.exec(query).all()
    names = addresses(session) if rows else {}
    return [Line(row.hash, row.reason, row.at, names.get(row.hash)) for row in rows]


def counts(session: Session) -> dict[str, int]:
    """How many entries of each reason."""
    rows = session.execute(select(col(Suppression.reason), func.count()).group_by(col(Suppression.reason)))
    return {row[0]: row[1] for row in sorted(rows)}


def addresses(session: Session) -> dict[str, str]:
    """The address of each hash that is a known lead's. Hashes are made here for all leads: there is no way back from one."""
    salt = salt_of(session)
    emails = session.exec(select(Lead.email).where(col(Lead.email).is_not(None)).execution_options(yield_per=10_000))
    return {hash_of(salt, email): email for email in emails if email}


def _page(session: Session, after: str) -> Sequence[Any]:
    query = select(Suppression).where(Suppression.hash > after).order_by(Suppression.hash).limit(AT_ONCE)
    return session.exec(query).all()
