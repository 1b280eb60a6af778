"""Starts journeys and tells them what leads do, as a command and as functions.

    .venv/bin/python starter.py start whitepaper-followup --lead hanako@example.com --prop content=whitepaper-7
    .venv/bin/python starter.py signal hanako@example.com "Page Viewed" --prop path=/pricing
    .venv/bin/python starter.py list --lead hanako@example.com

From Python: `await starter.start("whitepaper-followup", "hanako@example.com", properties={"content": "whitepaper-7"})`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

import typer
from rich.markup import escape

from mebae import wiring
from mebae.beside import load_beside
from mebae.events import canonical
from mebae.logs import configure_logging
from mebae.programs.screen import journeys_table, local, properties, run_command, screen
from mebae.starting import EntryRefused, JourneyLine, Started, list_journeys, signal, start

__all__ = ["EntryRefused", "JourneyLine", "Started", "list_journeys", "signal", "start"]

T = TypeVar("T")
Props = Annotated[list[str] | None, typer.Option("--prop", metavar="KEY=VALUE", help="A property; may be given several times.")]

commands = typer.Typer(
    help="Starts journeys and tells them what leads do.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


@commands.command("start")
def start_command(
    scenario: Annotated[str, typer.Argument(help="The scenario's id, such as whitepaper-followup.")],
    lead: Annotated[str, typer.Option("--lead", metavar="EMAIL", help="The lead's address.")],
    prop: Props = None,
    command: Annotated[str | None, typer.Option(help="An id of your own: the same one again starts nothing twice.")] = None,
) -> None:
    """Enters a lead into a scenario and starts the journey. Properties are what the scenario reads as entry.…"""
    done = _run(start(scenario, lead, properties=properties(prop or []), command=command))
    if done.starts_at is not None:
        begins = local(done.starts_at, wiring.load_settings().time_zone)
        screen().print(f"[yellow]●[/] journey {done.entry} is recorded and begins {begins}: the places of today are taken")
    elif done.running:
        screen().print(f"[green]✓[/] journey {done.entry} runs: {done.workflow_id}", soft_wrap=True)
    else:
        screen().print(
            f"[yellow]●[/] journey {done.entry} is recorded; Temporal does not answer, and the worker starts it when it does",
            soft_wrap=True,
        )


@commands.command("signal")
def signal_command(
    email: Annotated[str, typer.Argument(help="The lead's address.")],
    event: Annotated[str, typer.Argument(help='The event, such as "Page Viewed" or "Content Downloaded".')],
    prop: Props = None,
    message_id: Annotated[str | None, typer.Option(help="An id of your own: the same one again is stored once.")] = None,
) -> None:
    """Stores an event of a lead. The worker takes it to the journeys that listen for it."""
    stored = _run(signal(email, event, properties=properties(prop or []), message_id=message_id))
    screen().print("[green]✓[/] stored" if stored else "[yellow]●[/] known already: nothing changed")
    if slip := load_beside(wiring.load_settings().scenarios).known.wrong_event(canonical(event)):
        screen().print(f"[yellow]●[/] {escape(slip)} (kept all the same)", soft_wrap=True)


@commands.command("list")
def list_command(
    scenario: Annotated[str | None, typer.Option(help="Only this scenario.")] = None,
    lead: Annotated[str | None, typer.Option(metavar="EMAIL", help="Only this lead.")] = None,
    status: Annotated[str | None, typer.Option(help="open, starting, running, resting, ended or refused.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most, the newest first.")] = 100,
) -> None:
    """Lists journeys."""
    lines = _run(list_journeys(scenario=scenario, lead=lead, status=status, limit=limit))
    if lines:
        console = screen()
        zone = wiring.load_settings().time_zone
        console.print(journeys_table(lines, zone, console.width))
        console.print(f"times in {zone}", style="dim")
    else:
        screen().print("no journeys")


def _run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(wiring.with_last_word(work))


if __name__ == "__main__":
    configure_logging(quiet=True)
    run_command(commands)
