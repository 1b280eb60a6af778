"""`mebae export-leads`: leads into a CSV file or workbook."""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from mebae import wiring
from mebae.exporting import export_leads
from mebae.programs.screen import screen


def export_file(file: Path, segment: str | None, columns: str | None, encoding: str) -> None:
    """Writes the file and says how many leads are in it."""
    settings = wiring.load_settings()
    database = wiring.open_now(settings)
    console = screen()
    bar = Progress(
        TextColumn("exporting"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    try:
        with bar:
            task = bar.add_task("", total=None)
            report = export_leads(
                database,
                file,
                now=wiring.world_now(settings),
                segment=segment,
                columns=columns.split(",") if columns is not None else None,
                encoding=encoding,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
    finally:
        database.close()
    console.print(f"[green]✓[/] {escape(str(file))}: {report.rows} leads, {len(report.columns)} columns")
    if report.lost:
        console.print(
            f"[yellow]●[/] {report.lost} cells hold characters that {encoding} does not have; '?' stands there. "
            "--encoding utf-8-sig keeps them, and Excel opens it too"
        )
    console.print("The file holds personal data: keep it no longer than you need it.")
