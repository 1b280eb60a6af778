"""Lists of leads from CSV files and Excel workbooks: the good rows go in, each bad one is reported with its line and cure.

A file may come from any office in Japan (UTF-8, cp932, UTF-16, xlsx), with English or Japanese headings. It is read row by row
and stored 500 rows a transaction. The same file twice changes nothing.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict
from sqlmodel import Session

from mebae.columns import OF_LISTS, Columns, find_columns
from mebae.events import BY_VERB
from mebae.exporting import spelled
from mebae.import_rows import ConsentSaid, ReadRow, RowProblem, RowReader
from mebae.sheets import Sheet, readings, value_of
from mebae.store.companies import companies_for
from mebae.store.consents import Given, record_all
from mebae.store.database import Database
from mebae.store.ingest import EventLog, stored_before
from mebae.store.leads import LONGEST_ID, apply_traits, gather, settle
from mebae.store.scoring import active_scoring, stage_titles_of
from mebae.store.tables import Lead
from mebae.store.traits import Reading, clean_text

IMPORTED = BY_VERB["imported"].name
ROWS_AT_ONCE = 500
"""Rows a transaction: long enough to be quick, short enough that nobody waits for the leads."""
PROBLEMS_KEPT = 1000
"""Problems that the report holds; `on_problem` hears of all of them."""


class ImportReport(BaseModel):
    """What became of a file. `rows` = `new` + `changed` + `unchanged` + `left_out`."""

    rows: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    left_out: int = 0
    """Rows with a problem or more."""
    consents: int = 0
    """Rows that brought a consent."""
    kept: list[str] = []
    """The headings that mean nothing by themselves: their columns are kept as attributes under these names."""
    problems: list[RowProblem] = []
    """The first 1,000."""
    found: int = 0
    """How many problems there are in all."""


class ImportOptions(BaseModel):
    """How a list is to be taken."""

    model_config = ConfigDict(frozen=True)

    sheet: str | None = None
    """Of a workbook: the sheet's name or number; the first one shown if None."""
    mapping: Mapping[str, str] = {}
    """Heading → field, `lead.name` or `ignore`, before what headings mean by themselves."""
    must_have: Mapping[str, str] = {}
    """The headings that must be there, with the place that says so."""
    source: str | None = None
    """Where these leads come from; the list's name if None and no column says it."""
    campaign: str | None = None
    consent: ConsentSaid = ConsentSaid()
    time_zone: str = "Asia/Tokyo"
    """Of dates without a zone."""
    dry_run: bool = False
    """Everything is done and undone again: a full report, and nothing written."""


class _Undone(Exception):
    """Takes a dry run's result out of the transaction that it ends."""

    def __init__(self, became: list[str]) -> None:
        self.became = became


def import_leads(
    database: Database,
    path: Path | str,
    *,
    now: datetime,
    list_name: str | None = None,
    options: ImportOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
    on_problem: Callable[[RowProblem], None] | None = None,
) -> ImportReport:
    """Imports a file as the list `list_name` (the file's name, if not given). `BadInput` if it cannot be read at all.

    Each lead gets `Lead Imported {list, source, campaign}` once for each list. `progress(done, total)` is called after each 500
    rows; the total is a guess for workbooks until the end.
    """
    path, options = Path(path), options or ImportOptions()
    list_name = clean_text(list_name or path.stem).strip()[:LONGEST_ID] or "import"
    table, columns = find_columns(path, readings(path, options.sheet), options.mapping, options.must_have)
    work = _Import(database, list_name, options, now, on_problem)
    work.report.kept = columns.kept
    total = max(table.count() - columns.line, 0) if progress is not None else 0
    for rows in _chunks(work.rows(table, columns)):
        work.store(rows)
        if progress is not None and work.report.rows % ROWS_AT_ONCE == 0:
            progress(work.report.rows, max(total, work.report.rows))
    if progress is not None:
        progress(work.report.rows, work.report.rows)
    return work.report


def _chunks(rows: Iterator[ReadRow | None]) -> Iterator[list[ReadRow]]:
    """Rows by 500; those that were left out count too, so that the bar moves."""
    chunk: list[ReadRow] = []
    for seen, row in enumerate(rows, 1):
        if row is not None:
            chunk.append(row)
        if seen % ROWS_AT_ONCE == 0:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


class _Import:
    """One file on its way in."""

    def __init__(
        self,
        database: Database,
        list_name: str,
        options: ImportOptions,
        now: datetime,
        on_problem: Callable[[RowProblem], None] | None,
    ) -> None:
        self._database, self._list, self._options, self._now = database, list_name, options, now
        self._on_problem = on_problem
        self._mark = hashlib.sha256(list_name.encode()).hexdigest()[:24]
        self._zone = ZoneInfo(options.time_zone)
        self._stages = database.read_now(stage_titles_of)
        self._scores = database.read_now(active_scoring) is not None
        self._seen: dict[int, int] = {}
        """In a dry run: what each address said last, as hashes, for nothing of it is in the database."""
        self.report = ImportReport()

    # Storing

    def store(self, rows: Sequence[ReadRow]) -> None:
        if not rows:
            return
        try:
            became = self._database.write_now(self._store, rows)
        except _Undone as undone:
            became = self._again(rows, undone.became)
        counted = Counter(became)
        self.report.new += counted["new"]
        self.report.changed += counted["changed"]
        self.report.unchanged += counted["unchanged"]
        self.report.consents += sum(row.consent is not None for row in rows)

    def _store(self, session: Session, rows: Sequence[ReadRow]) -> list[str]:
        became = settle(session, lambda: self._write(session, rows))
        if self._options.dry_run:
            raise _Undone(became)
        return became

    def _write(self, session: Session, rows: Sequence[ReadRow]) -> list[str]:
        found = gather(session, [row.who for row in rows], self._now)
        stored = stored_before(session, {self._message_id(its.lead) for its in found})
        log, became, consents = EventLog(self._now), [], []
        for row, its in zip(rows, found, strict=True):
            lead = its.lead
            first = its.created and lead.last_seq == 0
            log.greet(its)
            changed = its.learned | apply_traits(lead, self._news(lead, row.reading, known=not first), self._now)
            if changed and not first:
                log.changed(lead, changed)
            message_id = self._message_id(lead)
            listed = message_id in stored
            came = self._came_from(lead, row.of_list, listed)
            if not listed:
                stored.add(message_id)
                log.add(lead, message_id, IMPORTED, {"list": self._list, **came})
            if row.consent is not None:
                consents.append(self._consent(lead, row.consent))
            became.append("new" if first else "changed" if changed else "unchanged")
        companies_for(session, log.to_place, self._now)
        log.write(session)
        record_all(session, consents)
        return became

    def _again(self, rows: Sequence[ReadRow], became: Sequence[str]) -> list[str]:
        """What a dry run would have come to, had the rows before these gone in."""
        corrected = []
        for row, its in zip(rows, became, strict=True):
            person = hash(row.who.email)
            said = hash(repr((row.reading.columns, row.reading.attributes)))
            before = self._seen.get(person)
            self._seen[person] = said
            corrected.append(its if its != "new" or before is None else "unchanged" if before == said else "changed")
        return corrected

    def _news(self, lead: Lead, reading: Reading, *, known: bool) -> Reading:
        """What of a row is new. A score of another system is an attribute of its own where a model reckons scores.

        A lead that is known keeps its stage and qualification: last month's export would take it back from sales. Who means
        to set them says so with `--map`.
        """
        if known:
            meant = set(self._options.mapping.values())
            kept = {name for name in ("stage", "qualification") if name in reading.columns and name not in meant}
            if kept:
                columns = {name: value for name, value in reading.columns.items() if name not in kept}
                reading = Reading(columns, reading.attributes, reading.unreadable)
        if self._scores and "score" in reading.columns:
            columns = dict(reading.columns)
            theirs = columns.pop("score")
            own = {} if theirs == lead.score else {"their_score": theirs}
            reading = Reading(columns, reading.attributes | own, reading.unreadable)
        return _without_what_is_known(lead, reading)

    def _message_id(self, lead: Lead) -> str:
        return f"lead-imported:{self._mark}:{lead.id}"

    def _came_from(self, lead: Lead, of_list: Mapping[str, Any], listed: bool) -> dict[str, str]:
        """Writes where the lead comes from: the first stays, the last is this list's, unless the list came before."""
        said = {field: str(of_list[field])[:LONGEST_ID] for field in OF_LISTS if field in of_list}
        came = {"source": said.get("source") or self._options.source or said.get("last_source") or self._list}
        if campaign := said.get("campaign") or self._options.campaign or said.get("last_campaign"):
            came["campaign"] = campaign
        if not listed or lead.last_source is None:
            if lead.first_source is None and lead.first_campaign is None:
                lead.first_source = said.get("first_source") or came["source"]
                lead.first_campaign = said.get("first_campaign") or came.get("campaign")
            lead.last_source, lead.last_campaign = came["source"], came.get("campaign")
        return came

    def _consent(self, lead: Lead, said: ConsentSaid) -> Given:
        assert lead.id is not None
        assert said.how is not None
        # The same again is the same consent; another wording or day in the same list is another.
        mark = hashlib.sha256(repr((self._mark, said.how, said.wording, said.given_at)).encode()).hexdigest()[:24]
        cause = f"import:{mark}:{lead.id}"
        return Given(lead.id, said.given_at or self._now, said.how, self._list, said.wording, cause)

    # Reading

    def rows(self, table: Sheet, columns: Columns) -> Iterator[ReadRow | None]:
        """The rows after the headings; None for one that is left out, whose problems went to the report."""
        reader = RowReader(columns, table.ragged, self._options.consent, self._stages, self._zone, self._now)
        for row in table.rows():
            if row.line <= columns.line:
                continue
            self.report.rows += 1
            read, problems = reader.read(row)
            if problems:
                self.report.left_out += 1
            for problem in problems:
                self.report.found += 1
                if len(self.report.problems) < PROBLEMS_KEPT:
                    self.report.problems.append(problem)
                if self._on_problem is not None:
                    self._on_problem(problem)
            yield read


def _without_what_is_known(lead: Lead, reading: Reading) -> Reading:
    """Without the attributes that stand on the lead already as a number, a truth or a list: a file has only their spelling."""
    known = lead.attributes
    news = {
        key: value
        for key, value in reading.attributes.items()
        if key not in known
        or isinstance(known[key], str)
        or str(value) not in (str(spelled(known[key])), str(value_of(spelled(known[key]))))
    }
    return Reading(reading.columns, news, reading.unreadable)
