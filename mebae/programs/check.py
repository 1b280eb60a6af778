"""`mebae check`: what the worker would say of the scenarios, and of the files beside them."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.progress import Progress, track
from rich.table import Table

from mebae.beside import Beside, load_beside
from mebae.broadcasts_loading import LoadedBroadcast, find_broadcasts, load_broadcast
from mebae.capping import crowded
from mebae.crm_loading import CRM_FILE
from mebae.errors import NotFound, Problem, ScenarioError
from mebae.loading import Loaded, find_scenarios, load_scenario
from mebae.mail.legal import lacking
from mebae.mail.link_asking import ask_links
from mebae.mail.personas import readers_of
from mebae.mail.rendering import parse_mail
from mebae.mail.wiring import mail_settings
from mebae.mailing import MailRules
from mebae.mailing_loading import MAILING_FILE
from mebae.programs.broadcasts_foretelling import coming
from mebae.programs.foretelling import asked, entering_next
from mebae.programs.house import find_root
from mebae.programs.languages import read_abroad
from mebae.programs.screen import screen
from mebae.proofing import Remark, Sheet, proof, remarks, sample_values, shared_of, sheets, with_sender
from mebae.pyfile import place
from mebae.reports.mail_words import UNSET, cap_words, rules_words, unset_words
from mebae.sales_loading import SALES_FILE
from mebae.scoring_loading import SCORING_FILE
from mebae.segments_loading import SEGMENTS_FILE
from mebae.settings import Settings
from mebae.tracking_loading import EVENTS_FILE
from mebae.wiring import load_settings, plain_settings


def check(scenario: str | None, *, links: bool = False) -> bool:
    """Says what is wrong, or what there is; whether all is well."""
    root = find_root()
    home = root / plain_settings().scenarios
    settings = load_settings()  # those of the house that runs here, as everywhere else: a dry run says the same
    activities = registered(root)
    folders = {folder.name.replace("_", "-"): folder for folder in find_scenarios(home)}
    broadcasts = {folder.name.replace("_", "-"): folder for folder in find_broadcasts(home)}
    taken = list(folders)
    if scenario is not None:
        name = scenario.replace("_", "-")
        if name not in folders | broadcasts:
            raise NotFound("scenario or broadcast", scenario, folders | broadcasts)
        folders, broadcasts = ({id: folder for id, folder in found.items() if id == name} for found in (folders, broadcasts))
    beside = load_beside(home)
    problems = list(beside.problems)
    loaded: list[Loaded] = []
    half_read: list[Loaded] = []
    half_to_send: list[LoadedBroadcast] = []
    for folder in folders.values():
        try:
            loaded.append(load_scenario(folder, activities=activities, known=beside.known))
        except ScenarioError as error:
            problems.extend(error.problems)
            half_read += [error.so_far] if isinstance(error.so_far, Loaded) else []
    to_send: list[LoadedBroadcast] = []
    for folder in broadcasts.values():
        try:
            to_send.append(load_broadcast(folder, known=beside.known, segments=beside.segments, taken=taken))
        except ScenarioError as error:
            problems.extend(error.problems)
            half_to_send += [error.so_far] if isinstance(error.so_far, LoadedBroadcast) else []
    said = coming(to_send, settings, root)
    problems += said.problems
    hints: list[Problem] = []
    if not problems or shared_of(home).layouts:  # without layouts there is nothing to look at
        read = proofs(list(sheets([*loaded, *half_read], [*to_send, *half_to_send])), beside, home, settings)
        problems += [one.problem for one in read if one.serious]
        hints = [one.problem for one in read if not one.serious]
    if not problems and links:
        problems += lost_links(list(sheets(loaded, to_send)), beside, home, settings)
    if problems:
        _show_problems(problems)
        return False
    if loaded:
        screen().print(_table(loaded))
    for line in said.lines:
        screen().print(f"[green]✓[/] {escape(line)}", soft_wrap=True)
    for line in _said(beside):
        screen().print(f"[green]✓[/] {escape(line)}")
    abroad = read_abroad(loaded, beside.mailing, settings, root)
    for note in [*hints, *crowded_notes(loaded, beside.mailing), *abroad]:
        part = f": [cyan]{escape(note.part)}[/]" if note.part else ""
        screen().print(f"[yellow]![/] [bold]{escape(note.file)}[/]{part}: {escape(note.message)}", soft_wrap=True)
    for line in waiting_for_settings(settings, root):
        screen().print(f"[yellow]![/] {escape(line)}", soft_wrap=True)
    for line in entering_next(loaded, beside.segments or [], settings, root):
        screen().print(f"[cyan]→[/] {escape(line)}", soft_wrap=True)
    return True


def crowded_notes(loaded: Sequence[Loaded], rules: MailRules) -> list[Problem]:
    """Where a frequency cap can hold a mail back. No reason to refuse a scenario: the mail goes out later, or as `on_cap` says."""
    notes = []
    for one in loaded:
        topics: dict[str, set[str]] = {}
        for (mail, _), path in one.mails.items():
            topics.setdefault(mail, set()).add(parse_mail(path.read_text(encoding="utf-8-sig"), path.name).topic)
        for crowd in crowded(one.graph, rules, topics):
            way = " → ".join(crowd.path)
            notes.append(
                Problem(
                    file=place(one.file, folders=2),
                    step=crowd.step,
                    message=f"can exceed the frequency cap ({cap_words(crowd.cap)}) on the way {way}: it then waits; put a longer "
                    'wait before it, or say on_cap="skip" or "end"',
                )
            )
    return notes


def waiting_for_settings(settings: Settings, root: Path) -> list[str]:
    """Which settings are missing without which marketing mail waits; nothing where no database answers, as nobody sends from there."""
    names = lacking(mail_settings(settings))
    if not names or not asked(settings, root, lambda database: True):
        return []
    return [f"marketing mail waits ({UNSET}): {unset_words(names)}"]


def proofs(mails: Sequence[Sheet], beside: Beside, home: Path, settings: Settings) -> list[Remark]:
    """Every mail, rendered for invented readers of its languages, and what there is to say of it."""
    mail, shared = with_sender(mail_settings(settings, beside.mailing)), shared_of(home)
    found: list[Remark] = []
    for sheet in track(mails, "reading mails", console=screen(), transient=True, disable=not screen().is_terminal):
        found += remarks(sheet, mail, beside, shared)
    return found


def lost_links(mails: Sequence[Sheet], beside: Beside, home: Path, settings: Settings) -> list[Problem]:
    """The links of mails that lead nowhere, each with the first mail that holds it."""
    mail, shared = with_sender(mail_settings(settings, beside.mailing)), shared_of(home)
    where: dict[str, str] = {}
    for sheet in mails:
        for reader in readers_of(sheet.language):
            done = proof(sheet, reader.words, sample_values(sheet, reader, mail, beside), shared)
            for link in done.rendered.links if done.rendered is not None else ():
                where.setdefault(link, sheet.where)
    console = screen()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("asking links", total=len(where))
        wrong = asyncio.run(ask_links(where, lambda: bar.advance(task)))
    return [Problem(file=where[link], message=f"the link {link} {what}") for link, what in wrong.items()]


def _said(beside: Beside) -> list[str]:
    """What stands beside the scenarios, a line a file."""
    lines = []
    if beside.scoring is not None:
        model = beside.scoring.model
        stages = " → ".join(stage.title or stage.id for stage in model.stages)
        rules = len(model.fit) + len(model.engagement) + len(model.exclusions)
        lines.append(f"{SCORING_FILE}: version {beside.scoring.version}, {rules} rules, stages {stages}")
    if beside.plan is not None:
        lines.append(
            f"{EVENTS_FILE}: {len(beside.plan.own)} events of your own, {len(beside.plan.events)} with the standard ones"
        )
    if beside.segments:
        lines.append(f"{SEGMENTS_FILE}: {', '.join(segment.id for segment in beside.segments)}")
    if beside.others.get(MAILING_FILE) is not None:
        lines.append(f"{MAILING_FILE}: {rules_words(beside.mailing)}")
    if beside.sales is not None:
        mqls = "every MQL is handed over" if beside.sales.on_mql else "hand_to_sales hands over"
        lines.append(f"{SALES_FILE}: {', '.join(one.id for one in beside.sales.people)}; {mqls}; {len(beside.sales.reasons)} reasons")
    if beside.crm is not None:
        lines.append(f"{CRM_FILE}: {', '.join(f'{one.name} ({len(one.fields)} fields)' for one in beside.crm.systems)}")
    named = {name: ", ".join(found) for name, found in beside.others.items() if isinstance(found, dict)}
    return lines + [f"{name}: {words}" for name, words in named.items()]


def registered(root: Path) -> list[str] | None:
    """What `run(…)` may call, read from `activities/registered.py` without running it; None if that cannot be told."""
    try:
        tree = ast.parse((root / "activities" / "registered.py").read_text())
    except (OSError, SyntaxError):
        return None
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "REGISTERED":
            keys = node.value.keys if isinstance(node.value, ast.Dict) else []
            names = [key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
            return names if len(names) == len(keys) and isinstance(node.value, ast.Dict) else None
    return None


def _show_problems(problems: list[Problem]) -> None:
    console = screen()
    for problem in problems:
        part = f": [cyan]{escape(problem.part)}[/]" if problem.part else ""
        console.print(
            f"[bold red]✗[/] [bold]{escape(problem.file)}[/]{part}: {escape(problem.message)}", soft_wrap=True
        )
    console.print(ScenarioError(problems).counted, style="red")


def _table(loaded: list[Loaded]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "scenario", "version", "steps", "mails", "languages", "title"):
        table.add_column(name, no_wrap=name in ("scenario", "version"), overflow="fold")
    for one in loaded:
        mails = {mail for mail, _ in one.mails}
        languages = sorted({language or "any" for _, language in one.mails})
        table.add_row(
            "[green]✓[/]", one.graph.scenario, one.graph.version, str(len(one.graph.steps)), str(len(mails)),
            ", ".join(languages), one.graph.title,
        )  # fmt: skip
    return table
