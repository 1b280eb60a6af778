"""How commands talk to a person: one look for tables and panels, errors without a traceback."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NoReturn
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mebae.conditions import Scalar
from mebae.errors import BadInput, MebaeError

if TYPE_CHECKING:
    from mebae.starting import JourneyLine


WIDE = 140
"""Columns of a terminal from which on a line of a long table fits; with fewer it takes two."""


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


def properties(given: list[str]) -> dict[str, Scalar]:
    """`--prop key=value` as properties: numbers, true and false are what they look like, all else is text; quotes keep text.

    >>> properties(["content=whitepaper-7", "pages=12", "paid=true", 'code="007"'])
    {'content': 'whitepaper-7', 'pages': 12, 'paid': True, 'code': '007'}
    """
    found: dict[str, Scalar] = {}
    for one in given:
        key, equals, value = one.partition("=")
        if not equals or not key.strip():
            raise BadInput(f"--prop '{one}' is no property: write key=value, such as --prop content=whitepaper-7")
        found[key.strip()] = _value(value)
    return found


def _value(text: str) -> Scalar:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, (bool, int, float, str)) else text


def journeys_table(lines: Sequence[JourneyLine], zone: str, width: int = WIDE) -> Table:
    """Journeys as a table; in a terminal that is not wide two lines each, so that ids stay whole."""
    if width < WIDE:
        return _journeys_in_two_lines(lines, zone)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("entry", "scenario", "lead", "status", "step", "waiting for", "until", "entered", "outcome"):
        table.add_column(name, no_wrap=name in ("entry", "status", "until", "entered"), overflow="fold")
    for line in lines:
        status = f"{line.status}, paused" if line.paused else line.status
        outcome = " ".join(filter(None, (line.outcome, f"({line.reason})" if line.reason else None)))
        table.add_row(
            str(line.entry), line.scenario, line.lead, status, line.step, line.waiting_for,
            local(line.deadline, zone), local(line.entered_at, zone), outcome,
        )  # fmt: skip
    return table


def _journeys_in_two_lines(lines: Sequence[JourneyLine], zone: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("entry", "scenario\nlead", "status\noutcome", "step\nwaiting for", "entered\nuntil"):
        table.add_column(name, no_wrap=name in ("entry", "entered\nuntil"), overflow="fold")
    for line in lines:
        status = f"{line.status}, paused" if line.paused else line.status
        outcome = " ".join(filter(None, (line.outcome, f"({line.reason})" if line.reason else None)))
        table.add_row(
            str(line.entry), f"{line.scenario}\n{line.lead}", f"{status}\n{outcome}", f"{line.step or ''}\n{line.waiting_for or ''}",
            f"{local(line.entered_at, zone)}\n{local(line.deadline, zone)}",
        )  # fmt: skip
    return table
