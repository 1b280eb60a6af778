"""The commands of CRM: `mebae crm …`."""

from __future__ import annotations

from typing import Annotated

import typer

crm = typer.Typer(help="The exchange with CRM systems and webhooks.", invoke_without_command=True)

System = Annotated[str | None, typer.Argument(metavar="NAME", help="As scenarios/crm.py calls it; all of them if left out.")]
Which = Annotated[str | None, typer.Option("--system", metavar="NAME", help="Only this one.")]


@crm.callback()
def list_systems(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many of the troubles.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: everything as JSON, times in UTC.")] = False,
) -> None:
    """Shows each system: what waits, was told and was refused, since when and why."""
    if context.invoked_subcommand is None:
        from mebae.programs.crm import list_systems

        list_systems(limit=limit, as_json=as_json)


@crm.command("test")
def try_systems(name: System = None) -> None:
    """Asks each system whether credentials and fields are right. Nothing is made or changed there."""
    from mebae.programs.crm import try_systems

    if not try_systems(name):
        raise typer.Exit(1)


@crm.command("push")
def push(
    lead: Annotated[str, typer.Option("--lead", metavar="EMAIL", help="The lead's address, its user id, or its number.")],
    system: Which = None,
) -> None:
    """Sends a lead as it is now, also if nothing has changed."""
    from mebae.programs.crm import push

    push(lead, system)


@crm.command("pull")
def pull(name: System = None) -> None:
    """Fetches now what became of leads, as the Schedule does."""
    from mebae.programs.crm import pull

    if not pull(name):
        raise typer.Exit(1)


@crm.command("retry")
def retry(
    system: Which = None,
    lead: Annotated[str | None, typer.Option("--lead", metavar="EMAIL", help="Only what is about this lead.")] = None,
) -> None:
    """Has what was refused told again, in its order and with the same keys."""
    from mebae.programs.crm import retry

    retry(system, lead)
