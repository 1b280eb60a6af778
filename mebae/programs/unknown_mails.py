"""`mebae mails …`: the mails of which nobody can say whether they went out, and what a person makes of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mebae import wiring
from mebae.beside import load_beside
from mebae.errors import BadInput, MebaeError, ScenarioError
from mebae.ledger import RETRIED
from mebae.mail.unknown import SendAgain, Settled, listed, settle_sent
from mebae.mail.wiring import gate_of, mail_settings, transport_of
from mebae.programs.screen import local, screen
from mebae.reports.mail_words import LOST
from mebae.settings import Settings
from mebae.store.database import Database
from mebae.store.tables import Delivery
from mebae.words import DeliveryStatus

_DIED = "the worker died after the first byte"


def list_unknown(*, limit: int, as_json: bool = False) -> None:
    """The newest unknown mails. What a server said is shown: it may name an address."""
    settings = wiring.load_settings()
    database = wiring.open_now(settings)
    try:
        rows, total = database.read_now(listed, wiring.world_now(settings), limit=limit)
    finally:
        database.close()
    console = screen()
    if as_json:
        console.print_json(json.dumps([_as_json(row) for row in rows], ensure_ascii=False))
        return
    if not rows:
        console.print("[green]✓[/] of every mail it is known whether it went out")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("mail", "lead", "of", "since", "tries", "what is known"):
        table.add_column(name, no_wrap=name != "what is known", overflow="fold", justify="right" if name in ("mail", "lead") else "left")
    for row in rows:
        since = local(row.data_at or row.claimed_at, settings.time_zone)
        table.add_row(str(row.id), str(row.lead_id), escape(_of(row)), since, str(row.attempt), escape(_known(row)))
    console.print(table)
    console.print(
        f"\n{total} unknown. If your mail server's log knows their Message-IDs (--json shows them), or the lead has them: mebae mails "
        "settle ID --sent. To send one once more, under the same Message-ID: mebae mails settle ID --send-again.",
        soft_wrap=True,
    )


def settle(ids: Sequence[int], *, sent: bool, send_again: bool) -> bool:
    """Writes down what a person knows, or sends again; whether all are settled."""
    if sent == send_again:
        raise BadInput("say what is to become of them: --sent, or --send-again")
    settings = wiring.load_settings()
    database = wiring.open_now(settings)
    console = screen()
    try:
        chosen = list(dict.fromkeys(ids))
        if sent:
            return [_settle_sent(console, database, settings, id) for id in chosen].count(False) == 0
        return asyncio.run(_send_all(console, database, settings, chosen))
    finally:
        database.close()


def _settle_sent(console: Console, database: Database, settings: Settings, id: int) -> bool:
    try:
        database.write_now(settle_sent, id, wiring.world_now(settings))
    except MebaeError as error:
        console.print(f"[bold red]✗[/] {escape(str(error))}", soft_wrap=True)
        return False
    console.print(f"[green]✓[/] mail {id} is kept as sent")
    return True


async def _send_all(console: Console, database: Database, settings: Settings, ids: Sequence[int]) -> bool:
    beside = load_beside(settings.scenarios)
    if beside.problems:  # not by laxer rules than the team's
        raise ScenarioError(beside.problems)
    rules = beside.mailing
    transport = transport_of(settings)
    again = SendAgain(
        database, transport, gate_of(settings, rules), mail_settings(settings, rules), now=lambda: wiring.world_now(settings)
    )
    try:
        return [await _send(console, again, settings, id) for id in ids].count(False) == 0
    finally:
        await transport.aclose()


async def _send(console: Console, again: SendAgain, settings: Settings, id: int) -> bool:
    try:
        settled = await again.send(id)
    except MebaeError as error:
        console.print(f"[bold red]✗[/] mail {id}: {escape(str(error))}", soft_wrap=True)
        return False
    console.print(_said(id, settled, settings), soft_wrap=True)
    return settled.status in (DeliveryStatus.SENT, DeliveryStatus.REFUSED)


def _said(id: int, settled: Settled, settings: Settings) -> str:
    if settled.status == DeliveryStatus.SENT:
        return f"[green]✓[/] mail {id} was sent once more"
    if settled.status == DeliveryStatus.REFUSED:
        return f"[yellow]●[/] mail {id} was refused ({settled.why}) and is not sent again"
    when = f"; from {local(settled.until, settings.time_zone)} on it may go" if settled.until is not None else ""
    return f"[yellow]●[/] mail {id} was not sent: {settled.why or settled.status}{when}. It stays unknown"


def _of(row: Delivery) -> str:
    return f"{row.scope}/{row.mail}" + (f" ({row.kind})" if row.kind != "marketing" else "")


def _known(row: Delivery) -> str:
    if row.reason is not None and row.reason not in (RETRIED, *LOST):
        return f"it may have arrived, and is not tried again: {row.reason}"
    once = "it was tried again by policy; " if row.reason == RETRIED else ""
    return once + (row.raw.split("\n")[0] if row.raw else _DIED)


def _as_json(row: Delivery) -> dict[str, object]:
    since = row.data_at or row.claimed_at
    return {
        "mail": row.id, "lead": row.lead_id, "scope": row.scope, "name": row.mail, "kind": row.kind, "entry": row.entry,
        "broadcast": row.broadcast_id, "message_id": row.message_id, "since": since.isoformat() if since else None,
        "attempt": row.attempt, "reason": row.reason, "raw": row.raw,
    }  # fmt: skip
