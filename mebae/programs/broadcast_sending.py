"""`mebae broadcasts send|pause|resume|end`."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Literal

import typer
from rich.markup import escape
from sqlmodel import Session
from temporalio.service import RPCError

from mebae import wiring
from mebae.beside import load_beside
from mebae.broadcast_foretelling import Foretold, Text, foretell
from mebae.broadcast_opening import request_run
from mebae.broadcast_sender import start_run
from mebae.broadcasts import BroadcastPlan
from mebae.errors import BadInput, NotFound, ScenarioError
from mebae.gating import GateRules
from mebae.mail.composing import texts_of
from mebae.mail.legal import lacking
from mebae.mail.rendering import choose_language, parse_mail
from mebae.mail.wiring import mail_settings
from mebae.programs.broadcasts import written_plans
from mebae.programs.languages import foreign_of, foreign_words
from mebae.programs.operating import operate
from mebae.programs.screen import local, screen
from mebae.reports.mail_words import FORETOLD, UNSET, unset_words
from mebae.settings import Settings
from mebae.starting import find_lead
from mebae.store.broadcast_results import open_runs
from mebae.store.broadcasts import plan_to_send
from mebae.store.tables import Broadcast
from mebae.temporal import TemporalAway, connect

PATIENCE = timedelta(seconds=3)


def send_broadcast(
    broadcast: str, *, to: Sequence[str], dry_run: bool, at_once: bool, yes: bool, command: str | None
) -> None:
    """Sends a broadcast now, to its segment or to the leads of some addresses; or only says what would happen."""
    settings = wiring.load_settings()
    database = wiring.open_now(settings)
    console = screen()
    try:
        plan = database.read_now(plan_to_send, broadcast)
        if _edited(plan, settings):
            console.print(
                "[yellow]●[/] its file was edited since the worker started: this sends it as it was then",
                soft_wrap=True,
            )
        for row in database.read_now(open_runs, broadcast):
            console.print(
                f"[yellow]●[/] run {row.id} of it is still under way: mebae broadcasts show {broadcast}", soft_wrap=True
            )
        only = [database.read_now(_number, address) for address in to] or None
        asked = plan if only is None else BroadcastPlan.model_validate(plan.model_dump() | {"only": tuple(only)})
        if dry_run or not (yes or only is not None):
            _say(database.read_now(_foretold, asked, settings), plan, settings, only=only is not None)
        if dry_run:
            console.print("Nothing was sent.", style="dim")
            return
        if only is None and not yes and not typer.confirm("Send it?", default=False):
            raise BadInput("nothing was sent")
        now = wiring.world_now(settings)
        id = command or uuid.uuid4().hex
        row = database.write_now(request_run, plan, id, now, only=only, at_once=at_once)
        started = asyncio.run(wiring.with_last_word(_start(row, settings)))
    finally:
        database.close()
    if started:
        console.print(
            f"[green]✓[/] run {row.id} of {broadcast} has begun: mebae broadcasts show {broadcast}", soft_wrap=True
        )
    else:
        console.print(
            f"[yellow]●[/] run {row.id} of {broadcast} is recorded; Temporal does not answer, and the worker starts it when it does"
        )


def _edited(plan: BroadcastPlan, settings: Settings) -> bool:
    try:
        return any(
            one.broadcast == plan.broadcast and one.version != plan.version for one in written_plans(settings.scenarios)
        )
    except ScenarioError:
        return True


async def _start(row: Broadcast, settings: Settings) -> bool:
    try:
        await start_run(await connect(patience=PATIENCE), row, settings.clock())
    except (TemporalAway, RPCError):
        return False
    return True


def steer(run: int, verb: Literal["pause", "resume", "end"], outcome: str | None = None) -> None:
    """Pauses, resumes or ends a run by its number."""
    settings = wiring.load_settings()
    database = wiring.open_now(settings)
    try:
        row = database.read_now(lambda session: session.get(Broadcast, run))
    finally:
        database.close()
    if row is None:
        raise NotFound("run", str(run))
    if row.status in ("done", "ended"):
        raise BadInput(f"run {run} of {row.broadcast} is over since {local(row.ended_at, settings.time_zone)}")
    operate(row.workflow_id, verb, outcome, called="broadcast")


def foretold(session: Session, plan: BroadcastPlan, sources: dict[str, str], settings: Settings) -> Foretold:
    """What a run would do now, by the gate's rules of the files. `sources`: the mail's text by language."""
    mail = mail_settings(settings, load_beside(settings.scenarios).mailing)
    rules = GateRules(mail.rules, settings.calendar(), tuple(lacking(mail)))
    topics = {language: parse_mail(source, plan.broadcast).topic for language, source in sources.items()}

    def text_of(language: str | None) -> Text:
        chosen = choose_language(list(topics), language or "", mail.rules.languages)
        return Text(topics[chosen], chosen)

    return foretell(session, plan, text_of, rules, settings.time_zone, wiring.world_now(settings))


def _foretold(session: Session, plan: BroadcastPlan, settings: Settings) -> Foretold:
    texts = texts_of(session, plan.broadcast, plan.mail)
    return foretold(session, plan, {language: source for language, (_, source) in texts.sources.items()}, settings)


def _number(session: Session, address: str) -> int:
    id = find_lead(session, address).id
    assert id is not None
    return id


def _say(found: Foretold, plan: BroadcastPlan, settings: Settings, *, only: bool) -> None:
    console = screen()
    leads, named = ("lead", "that was named") if found.members == 1 else ("leads", "that were named")
    who = named if only else f"in {plan.segment or 'the condition'}"
    console.print(f"[bold]{plan.broadcast}[/] {escape(plan.title)}: {found.members:,} {leads} {who}")
    console.print(f"  {found.go:>8,} would get it{'' if plan.local_time and not only else ' at once'}")
    for reason, many in _most(found.postponed):
        if reason == UNSET:
            said = escape(f"{UNSET} ({unset_words(lacking(mail_settings(settings)))})")
            console.print(f"  {many:>8,} would wait until the settings are there: {said}", soft_wrap=True)
            continue
        console.print(f"  {many:>8,} would wait {_until(found, reason, settings.time_zone)}: {_said(reason)}", soft_wrap=True)
    for reason, many in _most(found.refused):
        console.print(f"  {many:>8,} would be refused: {_said(reason)}", soft_wrap=True)
    if foreign := foreign_of(found.readers):
        console.print(f"  [yellow]![/] {escape(foreign_words(foreign))}", soft_wrap=True)
    if plan.holdout and not only:
        console.print(f"  of all of them, {plan.holdout} percent are held out and get none")
    if plan.ab is not None and not only:
        console.print(f"  {plan.ab.share} percent try {len(plan.ab.variants)} variants first")


def _until(found: Foretold, reason: str, zone: str) -> str:
    """Until when those wait, to the minute and in the workspace's zone."""
    first, last = (local(moment, zone) for moment in found.until[reason])
    return f"until {first} ({zone})" if first == last else f"until {first} to {last} ({zone})"


def _said(reason: str) -> str:
    """A code of the gate with its words."""
    return escape(f"{reason} ({FORETOLD[reason]})" if reason in FORETOLD else reason)


def _most(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda one: (-one[1], one[0]))
