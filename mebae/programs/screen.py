"""How commands talk to a person: one look for tables and panels, errors without a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from typing import NoReturn
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.markup import escape

from mebae.errors import MebaeError


def screen() -> Console:
    """Where a command says what it has to say. Without a terminal lines are not cut: somebody greps them."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=max(console.width, 160))


def run_command(command: Callable[[], object]) -> NoReturn:
    """Runs a command line; our own errors end it with their message and exit code 1."""
    try:
        command()
    except MebaeError as error:
        Console(stderr=True, highlight=False).print(f"[bold red]✗[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def local(moment: datetime | None, zone: str) -> str:
    """A moment for a person, in the workspace's zone."""
    return "" if moment is None else moment.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M")
