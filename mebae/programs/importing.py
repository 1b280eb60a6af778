"""`mebae import-leads`: a CSV file into the database, with what was wrong in it."""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from mebae import wiring
from mebae.errors import BadInput
from mebae.importing import ImportReport, import_leads
from mebae.programs.screen import screen

SHOWN = 50
"""Bad rows that are listed; a file with more is wrong as a whole."""


def import_file(file: Path, list_name: str | None) -> bool:
    """Imports, says what became of it, and whether every row went in."""
    if not file.is_file():
        raise BadInput(f"{file}: no such file")
    settings = wiring.load_settings()
    database = wiring.open_now(settings)
    console = screen()
    bar = Progress(TextColumn("importing"), BarColumn(), MofNCompleteColumn(), console=console, transient=True)
    try:
        with bar:
            task = bar.add_task("", total=None)
            report = import_leads(
                database,
                file,
                now=wiring.world_now(settings),
                list_name=list_name,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
    finally:
        database.close()
    _say(report, file)
    return not report.problems


def _say(report: ImportReport, file: Path) -> None:
    console = screen()
    bad = len({problem.line for problem in report.problems})
    mark = "[yellow]●[/]" if bad else "[green]✓[/]"
    console.print(
        f"{mark} {escape(str(file))}: {report.rows} rows, {report.new} new, {report.changed} changed, "
        f"{report.unchanged} unchanged, {bad} left out"
    )
    if not report.problems:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("line", "column", "found", "reason"):
        table.add_column(name, overflow="fold")
    for problem in report.problems[:SHOWN]:
        table.add_row(str(problem.line), *(escape(text) for text in (problem.column or "", problem.value_hint, problem.reason)))
    console.print(table)
    if len(report.problems) > SHOWN:
        console.print(f"… and {len(report.problems) - SHOWN} more")
