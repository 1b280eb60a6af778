"""The commands of sales: `mebae handovers …` and `mebae calls …`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

handovers = typer.Typer(help="Leads that are with sales, and what sales says of them.", invoke_without_command=True)
calls = typer.Typer(help="Telephone calls that inside sales is to make.", invoke_without_command=True)

Id = Annotated[int, typer.Argument(help="As `mebae handovers` shows it.")]
By = Annotated[
    str | None,
    typer.Option(help="Who says so, by the id in scenarios/sales.py or a name; else the account that runs it, if a person's."),
]
Note = Annotated[str, typer.Option(help="What is worth remembering. It is kept, and personal data.")]
Why = Annotated[str, typer.Option("--reason", help="The reason's code, such as too-early.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs: everything as JSON, times in UTC.")]
Owner = Annotated[str | None, typer.Option(help="Only those of this person, by the id in scenarios/sales.py.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="How many.")]


@handovers.callback()
def list_handovers(
    context: typer.Context,
    status: Annotated[str | None, typer.Option(help="Only those that are open, accepted, sql, …; closed or all.")] = None,
    owner: Owner = None,
    overdue: Annotated[bool, typer.Option("--overdue", help="Only those that somebody was reminded of.")] = False,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Lists the hand-overs that are under way, with how long each waits, the oldest first."""
    if context.invoked_subcommand is None:
        from mebae.programs.handovers import list_handovers

        list_handovers(status=status, owner=owner, overdue=overdue, limit=limit, as_json=as_json)


@handovers.command("show")
def show(id: Id, as_json: AsJson = False) -> None:
    """Shows one hand-over with all that happened to it: who, when, how."""
    from mebae.programs.handovers import show_handover

    show_handover(id, as_json=as_json)


@handovers.command("open")
def open_(
    who: Annotated[str, typer.Argument(metavar="EMAIL", help="The lead's address.")],
    why: Annotated[str, typer.Option(help="Why, for sales.")] = "",
    owner: Annotated[str | None, typer.Option(help="To whom; by the rules if left out.")] = None,
    by: By = None,
) -> None:
    """Gives a lead to sales by hand. One that is with sales already stays where it is."""
    from mebae.programs.handovers import open_handover

    open_handover(who, why=why, owner=owner, by=by)


@handovers.command("accept")
def accept(id: Id, by: By = None) -> None:
    """Sales takes the lead."""
    _decide(id, "accept", by=by)


@handovers.command("reject")
def reject(id: Id, reason: Why, note: Note = "", by: By = None) -> None:
    """Sales does not take it, and says why."""
    _decide(id, "reject", by=by, reason=reason, note=note)


@handovers.command("return")
def return_(id: Id, reason: Why, note: Note = "", by: By = None) -> None:
    """Sales gives it back to be nurtured."""
    _decide(id, "return", by=by, reason=reason, note=note)


@handovers.command("sql")
def sql(id: Id, note: Note = "", by: By = None) -> None:
    """Sales has judged it an SQL."""
    _decide(id, "sql", by=by, note=note)


@handovers.command("opportunity")
def opportunity(
    id: Id, amount: Annotated[int | None, typer.Option(min=0, help="What is expected.")] = None, note: Note = "", by: By = None
) -> None:
    """It has become an opportunity (商談)."""
    _decide(id, "opportunity", by=by, amount=amount, note=note)


@handovers.command("won")
def won(
    id: Id, amount: Annotated[int | None, typer.Option(min=0, help="Of the deal.")] = None, note: Note = "", by: By = None
) -> None:
    """The deal is won (受注)."""
    _decide(id, "won", by=by, amount=amount, note=note)


@handovers.command("lost")
def lost(id: Id, reason: Why, note: Note = "", by: By = None) -> None:
    """The deal is lost (失注), or nothing came of it."""
    _decide(id, "lost", by=by, reason=reason, note=note)


@handovers.command("pass")
def pass_(
    id: Id, to: Annotated[str, typer.Option(help="To whom, by the id in scenarios/sales.py.")], note: Note = "", by: By = None
) -> None:
    """Passes it on to somebody else, from inside sales to the field. The clock that runs begins anew."""
    _decide(id, "pass", by=by, to=to, note=note)


@handovers.command("import")
def import_(file: Annotated[Path, typer.Argument(help="A CSV file or workbook: id or email, outcome, reason, amount, note, by.")]) -> None:
    """Takes outcomes from a file. Bad rows are listed by line and left out; the same file twice changes nothing."""
    from mebae.programs.handovers import import_file

    if not import_file(file):
        raise typer.Exit(1)


@calls.callback()
def list_calls(
    context: typer.Context,
    done: Annotated[bool, typer.Option("--done", help="Also those that were made or given up.")] = False,
    owner: Owner = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Lists the calls that are to be made, those due first first."""
    if context.invoked_subcommand is None:
        from mebae.programs.handovers import list_calls

        list_calls(done=done, owner=owner, limit=limit, as_json=as_json)


@calls.command("done")
def call_done(
    id: Annotated[int, typer.Argument(help="As `mebae calls` shows it.")],
    outcome: Annotated[str, typer.Option(help="appointment, talked or no_answer.")],
    note: Note = "",
    by: By = None,
) -> None:
    """Records what came of a call."""
    from mebae.programs.handovers import call_done

    call_done(id, outcome, note=note, by=by)


def _decide(
    id: int, move: str, *, by: str | None, reason: str | None = None, note: str = "", amount: int | None = None, to: str | None = None
) -> None:
    from mebae.handover import Move
    from mebae.programs.handovers import decide

    decide(id, Move(move), by=by, reason=reason, note=note, amount=amount, to=to)
