"""Leads into a CSV file or Excel workbook, under the headings that an import reads: what is exported can be imported again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from sqlalchemy import ColumnElement, and_, func, true
from sqlmodel import Session, col, select

from mebae.columns import FIELDS, OWN
from mebae.errors import BadInput, did_you_mean
from mebae.sheets import writing
from mebae.store.database import Database
from mebae.store.segments import belongs, segment_to_sweep
from mebae.store.tables import Lead
from mebae.store.traits import COLUMNS, field_of

ALWAYS = ("email", "user_id", *COLUMNS, "first_source", "first_campaign", "last_source", "last_campaign")
"""The columns of every export; the attributes that any lead has come after them."""
ON_DEMAND = (
    "id", "company_id", "rank", "industry_group", "topics", "tags", "excluded", "opted_out_at", "created_at", "updated_at",
    "active_at", "contacted_at",
)  # fmt: skip
"""What `--columns` may name besides. For reading only: imported again they would be attributes of these names."""
ENCODINGS = ("utf-8-sig", "utf-8", "cp932")

PAGE = 1000
MOST_ATTRIBUTES = 500
EXCEL_ROWS = 1_048_575
_EXACT = 2**53


class ExportReport(BaseModel):
    """What went into the file."""

    rows: int = 0
    columns: list[str] = []
    lost: int = 0
    """Cells with characters that the encoding does not have."""


def export_leads(
    database: Database,
    path: Path | str,
    *,
    now: datetime,
    segment: str | None = None,
    columns: Sequence[str] | None = None,
    encoding: str = "utf-8-sig",
    progress: Callable[[int, int], None] | None = None,
) -> ExportReport:
    """Writes every lead that is not erased, or those of a segment as of now, into `path` (.csv or .xlsx), oldest first.

    `columns` are headings of `ALWAYS`, `ON_DEMAND` or `lead.name`; all of the first and all attributes if None. `BadInput` or
    `NotFound` for a column or segment that is not there. `progress(done, total)` counts leads, each twice if it first has to
    be seen which attributes there are.
    """
    path = Path(path)
    if encoding not in ENCODINGS:
        raise BadInput(f"'{encoding}' is no encoding for this{did_you_mean(encoding, ENCODINGS)}")
    where = database.read_now(_whose, segment, now)
    total = database.read_now(_count, where)
    if path.suffix.lower() == ".xlsx" and total > EXCEL_ROWS:
        raise BadInput(f"{path}: a sheet holds {EXCEL_ROWS:,} rows, and these are {total:,} leads: write a .csv")
    whole = total if columns is not None else 2 * total

    def tell(done: int) -> None:
        if progress is not None:
            progress(done, max(whole, done))

    headings = _checked(columns) if columns is not None else [*ALWAYS, *_attributes(database, where, tell)]
    report = ExportReport(columns=headings)
    with writing(path, encoding=encoding) as file:
        file.row(headings)
        for leads in _pages(database, where):
            for lead in leads:
                file.row([_cell(lead, heading) for heading in headings])
            report.rows += len(leads)
            tell(whole - total + report.rows)
        report.lost = file.lost
    return report


def spelled(value: Any) -> Any:
    """How a value stands in a cell: text or a number.

    >>> spelled(True), spelled(["a", 1]), spelled(None), spelled(120)
    ('true', '["a", 1]', '', 120)
    """
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() if abs(value) >= _EXACT:  # Excel would round it
            return str(value)
        case str() | int() | float():
            return value
        case datetime():
            return value.isoformat(timespec="seconds")
        case _:
            return json.dumps(value, ensure_ascii=False)


def _cell(lead: Lead, heading: str) -> Any:
    if heading in ALWAYS:
        return spelled(getattr(lead, heading))
    if heading in ON_DEMAND:
        value = getattr(lead, heading)
        return "; ".join(value) if isinstance(value, list) else spelled(value)
    return spelled(lead.attributes.get(heading.removeprefix(OWN)))


def _checked(columns: Sequence[str]) -> list[str]:
    found: list[str] = []
    for written in columns:
        name = written.strip()
        if name and name not in (*ALWAYS, *ON_DEMAND) and not name.startswith(OWN):
            near = did_you_mean(name, (*ALWAYS, *ON_DEMAND))
            raise BadInput(
                f"--columns: there is no column '{name}'{near} (an attribute of your own is written {OWN}{name})"
            )
        if name and name not in found:
            found.append(name)
    if not found:
        raise BadInput(
            f"--columns names none: choose of {', '.join((*ALWAYS, *ON_DEMAND))}, or {OWN}… for an attribute"
        )
    return found


def _heading(attribute: str) -> str:
    """An attribute's heading: its name, unless an import would take that for a field."""
    taken = field_of(attribute) not in (None, attribute) or attribute in (*FIELDS, *ALWAYS, *ON_DEMAND)
    own = attribute in ("last_name", "first_name")  # fields of an import, kept as attributes
    return f"{OWN}{attribute}" if (taken and not own) or attribute.startswith(OWN) else attribute


def _attributes(database: Database, where: ColumnElement[bool], tell: Callable[[int], None]) -> list[str]:
    """The headings of all attributes that any of these leads has."""
    names: set[str] = set()
    after, seen = 0, 0
    while found := database.read_now(_attributes_of, where, after):
        names.update(*(attributes for _, attributes in found))
        after, seen = found[-1][0] or 0, seen + len(found)
        tell(seen)
        if len(names) > MOST_ATTRIBUTES:
            raise BadInput(f"the leads have more than {MOST_ATTRIBUTES} attributes: say which you want with --columns")
    return [_heading(name) for name in sorted(names)]


def _pages(database: Database, where: ColumnElement[bool]) -> Iterator[Sequence[Lead]]:
    """The leads by the thousand, each page a transaction of its own: nobody waits for a long export."""
    after = 0
    while leads := database.read_now(_page, where, after):
        yield leads
        after = leads[-1].id or 0


def _page(session: Session, where: ColumnElement[bool], after: int) -> Sequence[Lead]:
    return session.exec(select(Lead).where(_kept(where), col(Lead.id) > after).order_by(col(Lead.id)).limit(PAGE)).all()


def _attributes_of(session: Session, where: ColumnElement[bool], after: int) -> Sequence[tuple[int | None, dict[str, Any]]]:
    query = select(col(Lead.id), col(Lead.attributes)).where(_kept(where), col(Lead.id) > after)
    return session.exec(query.order_by(col(Lead.id)).limit(PAGE)).all()


def _count(session: Session, where: ColumnElement[bool]) -> int:
    return session.exec(select(func.count()).select_from(Lead).where(_kept(where))).one()


def _kept(where: ColumnElement[bool]) -> ColumnElement[bool]:
    return and_(col(Lead.erased_at).is_(None), where)


def _whose(session: Session, segment: str | None, now: datetime) -> ColumnElement[bool]:
    if segment is None:
        return true()
    return belongs(session, segment_to_sweep(session, segment), now)
