"""`mebae why`: why a lead entered a scenario or did not, and what its journey waits for; why it got a mail or did not."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, RenderableType
from rich.text import Text

from mebae import wiring
from mebae.beside import load_beside
from mebae.errors import BadInput
from mebae.programs.lead import condition_tree, exempt_words, grid, print_json, quiet, section
from mebae.programs.screen import local, screen
from mebae.reports.finding import lead_of
from mebae.reports.mail_standing import Rules
from mebae.reports.mails import why_mails
from mebae.reports.mails_told import MailsReport, MailWhy
from mebae.reports.why import why
from mebae.reports.why_told import Came, UnderWay, WhyReport
from mebae.settings import Settings


def show_why(who: str, scenario: str | None, mail: str | None = None, *, as_json: bool = False) -> None:
    """Prints the answer and what it rests on: of a scenario, of one mail, or of the latest of every mail.

    `NotFound` with the nearest lead, scenario or mail.
    """
    if scenario is not None and mail is not None:
        raise BadInput("--scenario asks why the lead is in it, --mail why it got the mail: give one of them")
    settings = wiring.load_settings()
    database = wiring.open_now(settings)
    now, clock = wiring.world_now(settings), settings.clock()
    try:
        if scenario is not None:
            found = database.read_now(
                lambda session: why(session, lead_of(session, who), scenario, now, zone=settings.time_zone, clock=clock)
            )
        else:
            rules = rules_of(settings)
            mails = database.read_now(lambda session: why_mails(session, lead_of(session, who), rules, now, mail=mail))
    finally:
        database.close()
    if as_json:
        print_json(found if scenario is not None else mails)
    elif scenario is not None:
        say(found, settings.time_zone, screen())
    else:
        say_mails(mails, screen())


def rules_of(settings: Settings) -> Rules:
    """What the gate goes by, as the files say it now."""
    return Rules(load_beside(settings.scenarios).mailing, settings.time_zone, settings.calendar())


# Mails ----------------------------------------------------------------------------------------------------------------

_STYLES = {"go": "green", "refused": "red", "postponed": "yellow", "exited": "red"}
_MOMENTS = {"claim": "taken up", "data": "before it goes"}


def say_mails(found: MailsReport, console: Console) -> None:
    """May it be written to at all; then each mail with every answer of the gate."""
    head = Text(found.name or found.called, style="bold")
    if found.name:
        head.append(f"  {found.called}")
    head.append(f"  times in {found.zone}", style="dim")
    console.print(head)
    console.print(Text(f"May it get marketing mail? {found.standing.words}."))
    if found.standing.cure:
        console.print(Text(f"What would change that: {found.standing.cure}.", style="dim"))
    for one in found.never:
        section(console, one.scope, Text(one.words), *_exempt(found, one.topic))
    for mail in found.mails:
        _mail(mail, found, console)
    if not found.mails and not found.never:
        section(console, "Mails", quiet("none: no journey and no broadcast has come to a mail for it"))


def _exempt(found: MailsReport, topic: str) -> list[RenderableType]:
    """What is said above does not hold for a mail of a topic that heeds less."""
    return [Text(exempt_words(one)) for one in found.standing.topics if one.topic == topic and one.differs]


def _mail(mail: MailWhy, found: MailsReport, console: Console) -> None:
    zone = found.zone
    kind = "broadcast " if mail.of_broadcast else ""
    where = f"{kind}{mail.scope}" + (f" ({mail.title})" if mail.title else "")
    step = f", step {mail.step}" if mail.step and mail.step != mail.mail else ""
    visit = f", the {mail.visit}. time" if mail.visit > 1 else ""
    topic = f", topic {mail.topic}" if mail.topic else ""
    rows: list[Sequence[RenderableType]] = []
    if mail.earlier:
        rows.append((quiet(f"{mail.earlier} earlier answers"),))
    if mail.forgotten:
        rows.append((quiet("what the gate said then is kept no more (MEBAE_GATE_DAYS)"),))
    cures: list[str] = []
    for one in mail.answers:
        until = f" until {local(one.until, zone)}" if one.until is not None else ""
        rows.append(
            (
                quiet(local(one.at, zone)), quiet(f"{_MOMENTS.get(one.moment, one.moment)}, try {one.attempt}"),
                Text(f"{one.answer}{until}", style=_STYLES.get(one.answer, "")), Text(one.words), quiet(one.reason or ""),
            )
        )  # fmt: skip
        if one.cure and one is mail.answers[-1] and one.answer != "go":
            cures.append(one.cure)
    parts: list[RenderableType] = [Text(mail.words), *_exempt(found, mail.topic)]
    if rows:
        parts.append(grid(rows))
    parts += [quiet(f"What would change it: {cure}") for cure in cures]
    section(console, f"{mail.mail}: {where}{step}{visit}{topic}", *parts)


# Scenarios ------------------------------------------------------------------------------------------------------------


def say(found: WhyReport, zone: str, console: Console) -> None:
    """The answer first, then the evidence."""
    head = Text(found.called, style="bold")
    head.append(f" and {found.scenario}" + (f" ({found.title})" if found.title else ""))
    head.append(f"  times in {zone}", style="dim")
    console.print(head)
    console.print(Text(found.answer))
    for journey in found.under_way:
        _under_way(journey, console)
    rows: list[Sequence[RenderableType]] = []
    for entry in found.entries:
        key = f" [{entry.key}]" if entry.key else ""
        rows.append((str(entry.entry), quiet(local(entry.at, zone)), Text(f"{entry.cause}{key}"), Text(entry.words)))
    if rows:
        more = quiet(f"{found.refused_in_all} were refused in all") if found.refused_in_all > 1 else Text("")
        section(console, "Entries", grid(rows, right=[0]), *([more] if more.plain else []))
    for entry in found.entries:
        if entry.audience is not None:
            section(console, f"The audience that refused entry {entry.entry}, as it is by now", grid(condition_tree(entry.audience)))
            break
    for start in found.starts:
        said = f"{start.in_all} such" if start.in_all else "none"
        section(console, f"Starts when: {start.words}", *_events(start.came or start.near, zone, near=not start.came, said=said))
    if not found.starts:
        section(console, "Starts when:", quiet("somebody asks for it: starter.py start, or enroll(…) of another scenario"))
    if found.pending:
        section(console, "Acknowledged and not stored yet", *_events(found.pending, zone, near=False, said=""))
    rows = []
    for check in found.checks:
        mark, style = ("✓", "green") if check.holds else ("✗", "red")
        rows.append((Text(mark, style=style), Text(check.words)))
        if check.of is not None and check.of.kind != "one":
            rows += [(Text(""), grid([line])) for line in condition_tree(check.of)]
    section(console, "An entry of now would be asked", grid(rows))


def _events(came: Sequence[Came], zone: str, *, near: bool, said: str) -> list[RenderableType]:
    if not came:
        return [quiet("the lead has no such event, and none that is nearly so")]
    rows = [(quiet(local(one.at, zone)), Text(one.words), Text(one.fate)) for one in came]
    if near:
        return [quiet("the lead has no such event; the nearest are:"), grid(rows)]
    return [quiet(said), grid(rows)] if said else [grid(rows)]


def _under_way(journey: UnderWay, console: Console) -> None:
    rows: list[Sequence[RenderableType]] = []
    for one in journey.listens:
        rows.append((Text("on"), Text(one.words), Text(f"→ {one.to}")))
        if one.of is not None:
            rows += [(Text(""), *line) for line in condition_tree(one.of)]
    if journey.otherwise is not None:
        rows.append((Text("else"), Text("when the time is over"), Text(f"→ {journey.otherwise}")))
    parts: list[RenderableType] = [Text(journey.words)]
    if rows:
        parts.append(grid(rows))
    if journey.signals:
        parts.append(quiet(f"{journey.signals} signal(s) are still to be delivered to it: does Temporal run?"))
    if journey.exits is not None:
        parts += [quiet("It leaves early when:"), grid(condition_tree(journey.exits))]
    section(console, f"Under way: {journey.workflow_id}", *parts)
