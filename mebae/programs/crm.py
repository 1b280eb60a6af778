"""`mebae crm …`: how the exchange with other systems stands, and what a person can do about it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

from rich.markup import escape
from rich.table import Table
from sqlmodel import Session

from mebae import wiring
from mebae.beside import load_beside
from mebae.crm import outbox
from mebae.crm.adapter import Adapter, CrmAway, CrmRefused, Finding
from mebae.crm.model import CrmRules, System
from mebae.crm.outside import WAIT_FOR_CURE
from mebae.crm.rounds import pulling
from mebae.crm.wiring import adapter_of, secrets_of
from mebae.errors import BadInput, ScenarioError
from mebae.programs.house import find_root
from mebae.programs.screen import local, screen
from mebae.reports.crm import SystemLine, Trouble, systems, troubles
from mebae.resting import Setting
from mebae.starting import find_lead
from mebae.store.crm import crm_of
from mebae.store.database import Database, lock_lead

NONE = "no CRM system: write scenarios/crm.py (see docs/how-to/crm.md); the worker publishes it when it starts"


def list_systems(*, limit: int, as_json: bool) -> None:
    """Every system with what waits, was told and was refused; then the troubles one by one."""
    settings = wiring.load_settings()
    database = wiring.open_now(settings)
    try:
        lines, wrong = database.read_now(lambda session: (systems(session), troubles(session, limit)))
    finally:
        database.close()
    if as_json:
        said = {"systems": [one.model_dump(mode="json") for one in lines], "troubles": [one.model_dump(mode="json") for one in wrong]}
        print(json.dumps(said, ensure_ascii=False, indent=2))
        return
    console = screen()
    if not lines:
        console.print(f"[yellow]–[/] {NONE}", soft_wrap=True)
        return
    now = wiring.world_now(settings)
    console.print(_systems(lines, now, settings.time_zone))
    if wrong:
        console.print()
        console.print(_troubles(wrong, now))
        for code in dict.fromkeys(one.reason for one in wrong):
            cure = next(one.cure for one in wrong if one.reason == code)
            console.print(f"[cyan]{escape(code)}[/]: {escape(cure)}" if cure else f"[cyan]{escape(code)}[/]", soft_wrap=True)
        if any(one.status == "refused" for one in wrong):
            console.print("When it is put right: mebae crm retry")


def push(email: str, name: str | None) -> None:
    """Has a lead sent again as it is now, whether or not anything has changed."""
    settings = wiring.load_settings()
    database = wiring.open_now(settings)

    def write(session: Session) -> list[str]:
        rules = _chosen(crm_of(session), name)
        lead = lock_lead(session, find_lead(session, email).id or 0)
        assert lead is not None
        now = wiring.world_now(settings)
        return [one.name for one in rules if outbox.tell_lead(session, one, lead, now, force=True)]

    try:
        told = database.write_now(write)
    finally:
        database.close()
    if not told:
        raise BadInput(f"'{email}' has no address or was erased, so it goes to no system")
    screen().print(f"[green]✓[/] {escape(email)} goes to {escape(', '.join(told))}: the worker sends it in a moment; see: mebae crm")


def retry(name: str | None, email: str | None) -> None:
    """Has what was refused told again, in its order and with the same keys."""
    settings = wiring.load_settings()
    database = wiring.open_now(settings)

    def write(session: Session) -> int:
        lead = None if email is None else find_lead(session, email).id
        return outbox.retry(session, name, lead)

    try:
        count = database.write_now(write)
    finally:
        database.close()
    screen().print(f"[green]✓[/] {count} are told again" if count else "[green]✓[/] nothing was refused")


def pull(name: str | None) -> bool:
    """Fetches now what the Schedule would fetch; whether every system answered."""
    settings = wiring.load_settings()
    database, well = wiring.open_now(settings), True
    try:
        for system in _chosen(database.read_now(crm_of), name):
            well &= _pull(database, system, wiring.setting_of(settings), lambda: wiring.world_now(settings))
    finally:
        database.close()
    return well


def _pull(database: Database, system: System, setting: Setting, now: Callable[[], datetime]) -> bool:
    counts: dict[str, int] = {"read": 0, "decided": 0}
    try:
        work = pulling(system, partial(adapter_of, system, os.environ), setting)
        for mark in work(database, now):
            counts = dict(mark.counts)
    except (CrmAway, CrmRefused) as error:
        screen().print(f"[red]✗[/] {escape(system.name)}: {error.code}: {escape(error.raw or '')}", soft_wrap=True)
        return False
    screen().print(f"[green]✓[/] {escape(system.name)}: {counts['read']} records read, {counts['decided']} hand-overs decided")
    return True


def try_systems(name: str | None) -> bool:
    """Asks each system of the file whether credentials and fields are right; nothing is made there. Whether all is well."""
    settings = wiring.load_settings()
    beside = load_beside(find_root() / settings.scenarios)
    wrong = [one for one in beside.problems if one.file.endswith("crm.py")]
    if wrong:
        raise ScenarioError(wrong)
    if beside.crm is None:
        raise BadInput(NONE)
    well = True
    for system in _chosen(beside.crm, name):
        where = system.host if system.kind == "webhook" else system.base
        screen().print(f"[bold]{escape(system.name)}[/] ({system.kind}, {escape(where)})")
        for one in asyncio.run(_findings(system)):
            well &= one.ok
            mark = "[green]✓[/]" if one.ok else "[red]✗[/]"
            cure = f" – {escape(one.cure)}" if one.cure else ""
            screen().print(f"  {mark} {escape(one.what)}{cure}", soft_wrap=True)
    return well


async def _findings(system: System) -> list[Finding]:
    adapter: Adapter | None = None
    try:
        adapter = adapter_of(system, os.environ)
        found = list(await adapter.check())
    except (CrmAway, CrmRefused) as error:
        again = " (tried again every quarter of an hour)" if getattr(error, "retry_after", None) == WAIT_FOR_CURE else ""
        return [Finding(False, f"{error.code}: {error.raw or ''}{again}")]
    finally:
        if adapter is not None:
            await adapter.aclose()
    if "inbound" in system.secrets:
        there = bool(secrets_of(system, "inbound", os.environ))
        cure = "" if there else f"set {system.secrets['inbound']} for the server, or its webhook is answered 503"
        found.append(Finding(there, f"webhook to /v1/crm/{system.name}", cure))
    return found


def _chosen(rules: CrmRules, name: str | None) -> list[System]:
    if not rules.systems:
        raise BadInput(NONE)
    return list(rules.systems) if name is None else [rules.system(name)]


def _systems(lines: list[SystemLine], now: datetime, zone: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("system", "kind", "leads there", "waiting", "oldest", "told", "last told", "refused", "to read", "read until"):
        table.add_column(name, justify="right" if name in ("leads there", "waiting", "told", "refused", "to read") else "left")
    for one in lines:
        table.add_row(
            escape(one.name), one.kind or "[red]gone from crm.py[/]", str(one.leads), str(one.waiting), _age(one.oldest, now),
            str(one.told), local(one.last_told, zone), f"[red]{one.refused}[/]" if one.refused else "0", str(one.to_read),
            local(one.read_until, zone),
        )  # fmt: skip
    return table


def _troubles(wrong: Sequence[Trouble], now: datetime) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("id", "system", "what", "lead", "status", "reason", "age", "tries", "what it said"):
        table.add_column(name, overflow="fold", no_wrap=name in ("id", "status", "reason", "age", "tries"))
    for one in wrong:
        numbers = (_age(one.since, now), str(one.attempts))
        cells = (str(one.id), one.system, one.what, one.lead, one.status, one.reason, *numbers, one.raw[:160])
        table.add_row(*(escape(cell) for cell in cells), style="red" if one.status == "refused" else None)
    return table


def _age(since: datetime | None, now: datetime) -> str:
    """
    >>> from datetime import UTC
    >>> _age(datetime(2026, 4, 10, 1, tzinfo=UTC), datetime(2026, 4, 11, 3, tzinfo=UTC))
    '1 d 2 h'
    """
    if since is None:
        return ""
    minutes = max(int((now - since).total_seconds() // 60), 0)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 1440 else f"{minutes // 1440} d {minutes % 1440 // 60} h"
