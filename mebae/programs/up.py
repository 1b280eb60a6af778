"""`mebae up`: the whole house for real use, until Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from mebae.programs.house import House, announced, find_root, furnish, occupied, plan_house
from mebae.programs.screen import screen
from mebae.programs.supervisor import Supervisor
from mebae.wiring import plain_settings


def up() -> None:
    """Runs the house until Ctrl-C or SIGTERM. Raises `ChildDied` when a part of it ends by itself."""
    settings = plain_settings()
    root = find_root()
    state = (root / settings.state).resolve()
    console = screen()

    async def stay(house: House) -> None:
        console.print(addresses(house, "Mebae is up"))
        console.print("Ctrl-C ends it; nothing is lost by that.", style="dim")
        await asyncio.Event().wait()

    with occupied(state):
        house = plan_house(settings, root=root, state=state)
        asyncio.run(run_house(house, stay, console))


async def run_house(house: House, life: Callable[[House], Awaitable[None]], console: Console) -> None:
    """Starts the house, lets `life` run in it, and ends everything in order: after it, at a signal, or when a part dies."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for one in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(one, told.set)  # a second one changes nothing: the end is under way
    async with Supervisor() as supervisor:
        with announced(house):
            living = asyncio.create_task(_live(house, life, supervisor, console))
            waiting = asyncio.create_task(told.wait())
            await asyncio.wait({living, waiting}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if not living.done():
                console.print("\nending …", style="dim")
                living.cancel()
        await asyncio.gather(living, return_exceptions=True)
    if not living.cancelled():
        living.result()


async def _live(
    house: House, life: Callable[[House], Awaitable[None]], supervisor: Supervisor, console: Console
) -> None:
    with console.status("starting Temporal, the server and the worker …"):
        await furnish(house, supervisor)
    watching = asyncio.create_task(supervisor.watch())
    living = asyncio.ensure_future(life(house))
    try:
        await asyncio.wait({watching, living}, return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            watching.result()
        await living
    finally:
        for task in (watching, living):
            task.cancel()
        await asyncio.gather(watching, living, return_exceptions=True)


def addresses(house: House, title: str, more: Sequence[tuple[str, str]] = ()) -> Panel:
    """Where everything is. `more`: further lines, each with what it is about."""
    table = Table.grid(padding=(0, 2))
    table.add_row("Temporal UI", f"[link={house.ui_url}]{house.ui_url}[/]")
    if house.smtp:
        table.add_row("Inbox", f"[link={house.inbox_url}]{house.inbox_url}[/]")
    table.add_row("API", f"{house.api_url}/v1/batch (the Segment spec)")
    table.add_row("Write key", f"in {_short(house.key_place, house)}; web pages use that in page-key beside it")
    table.add_row("Mail", f"goes to {house.mail_goes_to}" + (", and to nobody else" if house.smtp else ""))
    table.add_row("State, logs", f"{_short(str(house.state), house)}/, {_short(str(house.state), house)}/logs/")
    for about, words in more:
        table.add_row(about, escape(words))
    for note in house.notes:
        table.add_row("[yellow]Note[/]", f"[yellow]{note}[/]")
    return Panel(table, title=f"[bold green]{title}[/]", expand=False)


def _short(place: str, house: House) -> str:
    path = Path(place)
    return str(path.relative_to(house.root)) if path.is_absolute() and path.is_relative_to(house.root) else place
