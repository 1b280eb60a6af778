"""`mebae doctor`: is everything there that lawful mail needs, and does it work? A list in green and red, with cures."""

from __future__ import annotations

import asyncio
import json

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn
from rich.text import Text

from mebae import wiring
from mebae.checkup import Finding
from mebae.examining import (
    examine_database,
    examine_domain,
    examine_mail_server,
    examine_public,
    examine_settings,
    examine_temporal,
)
from mebae.programs.screen import screen
from mebae.settings import Settings

MARKS = {"good": ("✓", "green"), "bad": ("✗", "bold red"), "unsure": ("●", "yellow")}


def doctor(*, as_json: bool) -> bool:
    """Looks at everything and says what it found; whether nothing is bad."""
    settings = wiring.load_settings()
    console = screen()
    bar = Progress(SpinnerColumn(), TextColumn("looking at {task.description}"), console=console, transient=True)
    with bar:
        found = asyncio.run(wiring.with_last_word(_look(settings, bar)))
    if as_json:
        print(json.dumps([one.model_dump() for one in found], ensure_ascii=False, indent=2))
    else:
        say(found, console)
    return all(one.verdict != "bad" for one in found)


async def _look(settings: Settings, bar: Progress) -> list[Finding]:
    task = bar.add_task("the settings", total=None)
    found = examine_settings(settings)
    bar.update(task, description="the public address")
    found += await examine_public(settings)
    bar.update(task, description="the database")
    found += await asyncio.to_thread(examine_database, settings)
    bar.update(task, description="Temporal")
    found += await examine_temporal()
    bar.update(task, description="the mail server")
    found += await examine_mail_server(settings)
    bar.update(task, description="the domain's DNS records")
    return found + await asyncio.to_thread(examine_domain, settings)


def say(found: list[Finding], console: Console) -> None:
    """Prints the list, area by area; what is bad with its cure beneath."""
    area = ""
    for one in found:
        if one.area != area:
            area = one.area
            console.print(Text(area, style="bold"))
        mark, style = MARKS[one.verdict]
        console.print(Text.assemble("  ", (mark, style), f" {one.what}: {one.words}"), soft_wrap=True)
        if one.cure:
            console.print(Text(f"      → {one.cure}", style="cyan"), soft_wrap=True)
    count = sum(one.verdict == "bad" for one in found)
    if count:
        things = "1 thing is" if count == 1 else f"{count} things are"
        console.print(f"[bold red]✗[/] {things} to be put right before real mail goes out")
    else:
        console.print("[green]✓[/] nothing stands in the way")
