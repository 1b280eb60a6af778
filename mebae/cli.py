"""The `mebae` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mebae.logs import configure_logging
from mebae.programs.screen import run_command

commands = typer.Typer(
    help="Mebae (芽生え): lead nurturing. Scenarios as Python, one durable Temporal workflow a lead.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
journeys = typer.Typer(help="What ops do with running journeys.", no_args_is_help=True)
commands.add_typer(journeys, name="journeys")

WorkflowId = Annotated[str, typer.Argument(help="As `starter.py list` and the Temporal UI show it: journey/…")]

# Commands import what they need when they run, so that `mebae --help` and `mebae check` answer at once.


@commands.command()
def up() -> None:
    """Runs everything on this machine: Temporal, worker, server and inbox, until Ctrl-C."""
    from mebae.programs.up import up

    up()


@commands.command()
def demo(
    seconds_a_day: Annotated[float, typer.Option(min=0.5, help="How long a day of the world takes.")] = 3.0,
    cap: Annotated[float, typer.Option(min=5, help="Seconds after which the story is cut.")] = 90.0,
) -> None:
    """Shows a scenario at work: real Temporal, real mail to an inbox, invented leads, days that pass in seconds."""
    from mebae.programs.demo import demo

    demo(seconds_a_day=seconds_a_day, cap=cap)


@commands.command()
def check(
    scenario: Annotated[str | None, typer.Argument(help="The scenario's id; all of them if left out.")] = None,
) -> None:
    """Reads the scenarios as the worker would, and lists every problem with its file and step."""
    from mebae.programs.check import check

    if not check(scenario):
        raise typer.Exit(1)


@commands.command("import-leads")
def import_leads(
    file: Annotated[Path, typer.Argument(help="A CSV file with a header line.")],
    list_name: Annotated[str | None, typer.Option("--list", metavar="NAME", help="The list's name; the file's if left out.")] = None,
) -> None:
    """Imports leads from a CSV file. Bad rows are listed and left out; the same file twice changes nothing."""
    from mebae.programs.importing import import_file

    if not import_file(file, list_name):
        raise typer.Exit(1)


@journeys.command()
def pause(workflow_id: WorkflowId) -> None:
    """Parks a journey where it is. Nothing is lost: what it hears meanwhile counts."""
    from mebae.programs.operating import operate

    operate(workflow_id, "pause")


@journeys.command()
def resume(workflow_id: WorkflowId) -> None:
    """Lets a paused journey go on."""
    from mebae.programs.operating import operate

    operate(workflow_id, "resume")


@journeys.command()
def end(
    workflow_id: WorkflowId,
    outcome: Annotated[str, typer.Option(help="What the journey is counted under.")] = "ended-by-hand",
) -> None:
    """Ends a journey now."""
    from mebae.programs.operating import operate

    operate(workflow_id, "end", outcome)


def main() -> None:
    """Where the command begins."""
    configure_logging(quiet=True)
    run_command(commands)
