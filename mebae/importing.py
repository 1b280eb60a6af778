"""Lists of leads from CSV files: the good rows go in, each bad one is reported with its line, column and cure.

A file may come from Excel in Japan (UTF-8 with or without BOM, cp932) with English or Japanese headings. The same file twice
changes nothing.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel
from sqlmodel import Session

from mebae.errors import BadInput
from mebae.events import BY_VERB
from mebae.store.database import Database
from mebae.store.ingest import EventLog, stored_before
from mebae.store.leads import LONGEST_ID, Who, apply_traits, gather, normalise_email, settle
from mebae.store.tables import Lead
from mebae.store.traits import Reading, clean_text, field_of, read_traits

IMPORTED = BY_VERB["imported"].name
ROWS_AT_ONCE = 500
"""Rows a transaction: long enough to be quick, short enough that nobody waits for the leads."""


class RowProblem(BaseModel):
    """One thing wrong with one row. The row was left out."""

    line: int
    column: str | None = None
    """The heading as it stands in the file; None if the whole row is meant."""
    value_hint: str = ""
    """The beginning of what stands there. Personal data: for the person at the screen, not for a log."""
    reason: str

    def __str__(self) -> str:
        place = f"line {self.line}" + (f", column '{self.column}'" if self.column else "")
        return f"{place}: {self.reason}" + (f" (found '{self.value_hint}')" if self.value_hint else "")


class ImportReport(BaseModel):
    """What became of a file. `rows` = `new` + `changed` + `unchanged` + the rows with problems."""

    rows: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    problems: list[RowProblem] = []


class _Row(NamedTuple):
    who: Who
    reading: Reading


def import_leads(
    database: Database,
    path: Path | str,
    *,
    now: datetime,
    list_name: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Imports a CSV file as the list `list_name` (the file's name, if not given). `BadInput` if it cannot be read at all.

    Each lead gets `Lead Imported {list}` once for each list. `progress(done, total)` is called after each 500 rows.
    """
    path = Path(path)
    list_name = clean_text(list_name or path.stem).strip()[:LONGEST_ID] or "import"
    report = ImportReport()
    rows = list(_read(path, report))
    done = report.rows - len(rows)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        chunk = rows[start : start + ROWS_AT_ONCE]
        became = database.write_now(_store, chunk, list_name, now)
        report.new += became["new"]
        report.changed += became["changed"]
        report.unchanged += became["unchanged"]
        done += len(chunk)
        if progress is not None:
            progress(done, report.rows)
    if progress is not None and not rows:
        progress(report.rows, report.rows)
    return report


def _store(session: Session, rows: Sequence[_Row], list_name: str, now: datetime) -> Counter[str]:
    def work() -> Counter[str]:
        found = gather(session, [row.who for row in rows], now)
        stored = stored_before(session, {_message_id(list_name, its.lead) for its in found})
        log, became = EventLog(now), Counter[str]()
        for row, its in zip(rows, found, strict=True):
            first = its.created and its.lead.last_seq == 0
            log.greet(its)
            changed = its.learned | apply_traits(its.lead, row.reading, now)
            if changed and not first:
                log.changed(its.lead, changed)
            message_id = _message_id(list_name, its.lead)
            if message_id not in stored:
                stored.add(message_id)
                log.add(its.lead, message_id, IMPORTED, {"list": list_name})
            became["new" if first else "changed" if changed else "unchanged"] += 1
        log.write(session)
        return became

    return settle(session, work)


def _message_id(list_name: str, lead: Lead) -> str:
    return f"lead-imported:{hashlib.sha256(list_name.encode()).hexdigest()[:24]}:{lead.id}"


# Reading the file -----------------------------------------------------------------------------------------------------


def _read(path: Path, report: ImportReport) -> Iterator[_Row]:
    """The good rows; the bad ones go to the report."""
    text = _text(path)
    head = next(line for line in text.splitlines() if line.strip())
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",\t;", key=head.count))
    try:
        headings = [
            clean_text(heading).strip() for heading in next(cells for cells in reader if any(map(str.strip, cells)))
        ]
    except csv.Error as error:
        raise BadInput(f"{path}: the first line cannot be read as CSV ({error}): save it as CSV again") from None
    fields = [field_of(heading) for heading in headings]
    if "email" not in fields:
        shown = ", ".join(f"'{heading[:30]}'" for heading in headings[:12] if heading)
        raise BadInput(f"{path}: no column holds addresses (found {shown}): name one 'email' or 'メールアドレス'")
    twice = [name for name, times in Counter(field for field in fields if field is not None).items() if times > 1]
    if twice:
        both = " and ".join(
            f"'{heading}'" for heading, field in zip(headings, fields, strict=True) if field == twice[0]
        )
        raise BadInput(f"{path}: the columns {both} both mean {twice[0]}: rename or remove one")
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            report.rows += 1
            report.problems.append(RowProblem(line=line, reason=f"cannot be read as CSV ({error})"))
            continue
        if not any(cell.strip() for cell in cells):
            continue
        report.rows += 1
        row = _row(line, cells, headings, fields, report.problems)
        if row is not None:
            yield row


def _row(
    line: int, cells: Sequence[str], headings: Sequence[str], fields: Sequence[str | None], problems: list[RowProblem]
) -> _Row | None:
    if len(cells) != len(headings):
        reason = f"has {len(cells)} columns where the first line has {len(headings)}: quote cells that hold a comma or a line break"
        problems.append(RowProblem(line=line, reason=reason))
        return None
    said = {heading: clean_text(cell).strip() for heading, cell in zip(headings, cells, strict=True) if heading}
    mine: list[RowProblem] = []
    heading_of = {field: heading for heading, field in zip(headings, fields, strict=True) if field is not None}
    written = said[heading_of["email"]]
    email, user_id = None, said.get(heading_of.get("user_id", "")) or None
    try:
        email = normalise_email(written)
    except BadInput as error:
        reason = str(error) if written else "is empty: every lead needs an address"
        mine.append(RowProblem(line=line, column=heading_of["email"], value_hint=written[:40], reason=reason))
    if user_id is not None and len(user_id) > LONGEST_ID:
        column = heading_of["user_id"]
        mine.append(
            RowProblem(
                line=line, column=column, value_hint=user_id[:40], reason=f"is longer than {LONGEST_ID} characters"
            )
        )
    reading = read_traits(said)
    mine += [
        RowProblem(line=line, column=bad.key, value_hint=bad.value, reason=bad.reason) for bad in reading.unreadable
    ]
    if mine:
        problems += mine
        return None
    return _Row(Who(email=email, user_id=user_id, moves=True), reading)


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise BadInput(f"{path}: there is no such file: check the path") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}): give a CSV file") from None
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BadInput(f"{path}: this is UTF-16 text: save it as 'CSV UTF-8'")
    if raw.startswith(b"PK\x03\x04"):
        raise BadInput(f"{path}: this is an Excel workbook: save it as 'CSV UTF-8'")
    for encoding in ("utf-8-sig", "cp932"):
        try:
            text = raw.decode(encoding)
            break
        except UnicodeDecodeError:
            continue
    else:
        raise BadInput(f"{path}: is neither UTF-8 nor Shift_JIS (cp932): save it as 'CSV UTF-8'")
    if not text.strip():
        raise BadInput(
            f"{path}: the file is empty: it needs a line of headings, such as 'email,name,company', and rows"
        )
    return text
