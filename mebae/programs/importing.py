"""`mebae import-leads`: a CSV file or workbook into the database, with what was wrong in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from zoneinfo import ZoneInfo

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mebae import wiring
from mebae.columns import parse_mapping, read_mapping
from mebae.errors import BadInput
from mebae.import_rows import ConsentSaid, RowProblem, read_date
from mebae.importing import ImportOptions, ImportReport, import_leads
from mebae.programs.screen import screen
from mebae.settings import Settings
from mebae.sheets import writing

SHOWN = 50
"""Bad rows that are listed; a file with more is wrong as a whole."""
MAPPING = ".map.yaml"
"""How the mapping that is kept beside a list ends: `expo.map.yaml` beside `expo.xlsx`."""


def import_file(
    file: Path,
    list_name: str | None = None,
    *,
    sheet: str | None = None,
    maps: Sequence[str] = (),
    mapping: Path | None = None,
    source: str | None = None,
    campaign: str | None = None,
    consent: str | None = None,
    consent_wording: str | None = None,
    consent_date: str | None = None,
    dry_run: bool = False,
    report_file: Path | None = None,
) -> bool:
    """Imports, says what became of it, and whether every row went in."""
    if not file.is_file():
        raise BadInput(f"{file}: no such file")
    settings = wiring.load_settings()
    options = ImportOptions(
        sheet=sheet,
        **_mapping(file, maps, mapping),
        source=source,
        campaign=campaign,
        consent=_consent(settings, consent, consent_wording, consent_date),
        time_zone=settings.time_zone,
        dry_run=dry_run,
    )
    database = wiring.open_now(settings)
    console = screen()
    bar = Progress(
        TextColumn("reading" if dry_run else "importing"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    try:
        with _problems_into(report_file) as on_problem, bar:
            task = bar.add_task("", total=None)
            report = import_leads(
                database,
                file,
                now=wiring.world_now(settings),
                list_name=list_name,
                options=options,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
                on_problem=on_problem,
            )
    finally:
        database.close()
    _say(report, file, dry_run, report_file)
    return not report.left_out


def _mapping(file: Path, maps: Sequence[str], mapping: Path | None) -> dict[str, dict[str, str]]:
    """What the files and the options say of the columns; the options win, and what they name must be there."""
    beside = file.with_name(file.stem + MAPPING)
    kept = read_mapping(mapping) if mapping is not None else read_mapping(beside) if beside.is_file() else {}
    said = parse_mapping(maps)
    return {
        "mapping": kept | said,
        "must_have": {heading: f"--map '{heading}={field}'" for heading, field in said.items()},
    }


def _consent(settings: Settings, how: str | None, wording: str | None, date: str | None) -> ConsentSaid:
    given_at = None
    if date is not None:
        try:
            given_at = read_date(date, ZoneInfo(settings.time_zone))
        except BadInput as error:
            raise BadInput(f"--consent-date '{date}': {error}") from None
        if given_at > wiring.world_now(settings):
            raise BadInput(f"--consent-date '{date}': is in the future")
    if how is not None and not how.strip():
        raise BadInput("--consent: say how it was given, such as business-card or form")
    return ConsentSaid(how=how.strip() if how is not None else None, wording=wording or "", given_at=given_at)


@contextmanager
def _problems_into(path: Path | None) -> Iterator[Callable[[RowProblem], None] | None]:
    if path is None:
        yield None
        return
    with writing(path) as file:
        file.row(["line", "column", "found", "reason"])
        yield lambda problem: file.row([problem.line, problem.column or "", problem.value_hint, problem.reason])


def _say(report: ImportReport, file: Path, dry_run: bool, report_file: Path | None) -> None:
    console = screen()
    mark = "[yellow]●[/]" if report.left_out else "[green]✓[/]"
    consents = f", {report.consents} with consent" if report.consents else ""
    console.print(
        f"{mark} {escape(str(file))}: {report.rows} rows, {report.new} new, {report.changed} changed, "
        f"{report.unchanged} unchanged, {report.left_out} left out{consents}"
    )
    if report.kept:
        one = report.kept[0]
        console.print(
            f"Kept as attributes under their headings: {escape(', '.join(report.kept))}. To give one a meaning, or to leave it out: "
            f"--map '{escape(one)}=company', --map '{escape(one)}=ignore'",
            soft_wrap=True,
        )
    if report.new and not report.consents:
        console.print(
            "Nobody of them has agreed to get mail, as far as the list says: none gets marketing mail until that is recorded. "
            "--consent HOW says it of the whole list (form, business-card, dealings …), a column 'consent' of each row",
            soft_wrap=True,
        )
    if dry_run:
        console.print("This was a dry run: nothing was written.")
    if not report.problems:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("line", "column", "found", "reason"):
        table.add_column(name, overflow="fold")
    for problem in report.problems[:SHOWN]:
        table.add_row(
            str(problem.line), *(escape(text) for text in (problem.column or "", problem.value_hint, problem.reason))
        )
    console.print(table)
    if report_file is not None:
        console.print(f"Every problem ({report.found}) is in {escape(str(report_file))}.")
    elif report.found > SHOWN:
        console.print(f"… and {report.found - SHOWN} more: --report problems.csv writes them all")
