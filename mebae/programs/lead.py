"""`mebae lead show` and `mebae leads`: a lead, and lists of leads, for a person at a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime

from pydantic import BaseModel
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mebae import wiring
from mebae.beside import load_beside
from mebae.programs.screen import WIDE, local, screen
from mebae.reports.explaining import Explained, distance_words, value_words
from mebae.reports.finding import lead_of
from mebae.reports.lead import report
from mebae.reports.lead_told import LeadReport, Rule
from mebae.reports.leads import LeadList, lead_list
from mebae.reports.mail_standing import Rules
from mebae.reports.mails_told import MailStanding, TopicTold
from mebae.store.standing import points_words

_MARKS = {True: ("✓", "green"), False: ("✗", "red")}
_QUIET = "bright_black"


def show(who: str, *, events: int = 20, ledger: bool = False, as_json: bool = False) -> None:
    """Prints everything of one lead. `NotFound` with what is nearest."""
    settings = wiring.load_settings()
    database = wiring.open_now(settings)
    try:
        now = wiring.world_now(settings)
        rules = Rules(load_beside(settings.scenarios).mailing, settings.time_zone, settings.calendar())
        zone = "UTC" if as_json else settings.time_zone  # as all other times of the JSON
        found = database.read_now(
            lambda session: report(session, lead_of(session, who), now, events=events, ledger=ledger, rules=rules, zone=zone)
        )
    finally:
        database.close()
    if as_json:
        print_json(found)
    else:
        say(found, settings.time_zone, screen())


def show_list(
    *,
    limit: int = 20,
    stage: str | None = None,
    qualification: str | None = None,
    segment: str | None = None,
    excluded: bool = False,
    as_json: bool = False,
) -> None:
    """Prints the leads with the most points, or those that are kept out, with the reasons."""
    settings = wiring.load_settings()
    database = wiring.open_now(settings)
    try:
        found = database.read_now(
            lead_list, wiring.world_now(settings), limit=limit, stage=stage, qualification=qualification,
            segment=segment, excluded=excluded,
        )  # fmt: skip
    finally:
        database.close()
    if as_json:
        print_json(found)
    else:
        say_list(found, settings.time_zone, screen(), excluded=excluded)


def print_json(found: BaseModel) -> None:
    """For programs: UTC times, nothing cut."""
    print(found.model_dump_json(indent=2))


# Parts that several commands share -----------------------------------------------------------------------------------


def grid(rows: Iterable[Sequence[RenderableType]], *, right: Sequence[int] = ()) -> Table:
    """Columns without lines. rich counts Japanese letters as the two cells that they take.

    A column that is empty in every row is left out: rich measures it as nothing and draws it one cell wide, at its neighbour's cost.
    """
    listed = [list(row) for row in rows]
    shown = [
        column
        for column in range(max((len(row) for row in listed), default=0))
        if any(column < len(row) and str(row[column]) for row in listed)
    ]
    table = Table.grid(padding=(0, 2, 0, 0))
    for column in shown:
        table.add_column(justify="right" if column in right else "left", overflow="fold", no_wrap=column in right)
    for row in listed:
        table.add_row(*(row[column] for column in shown if column < len(row)))
    return table


def section(console: Console, title: str, *parts: RenderableType) -> None:
    """A heading and what stands under it, two cells further in."""
    console.print()
    console.print(Text(title, style="bold"))
    console.print(Padding(Group(*parts), (0, 0, 0, 2), expand=False))


def condition_tree(told: Explained, depth: int = 0) -> list[Sequence[RenderableType]]:
    """A condition, a line for each part: whether it holds, what it says, what the lead has."""
    mark, style = _MARKS[told.value]
    indent = "  " * depth
    if told.kind == "one":
        return [(Text(f"{indent}{mark} {told.words}", style=style), Text(told.actual, style=_QUIET))]
    heads = {"all": "all of", "any": "any of", "not": "not"}
    rows: list[Sequence[RenderableType]] = [(Text(f"{indent}{mark} {heads[told.kind]}", style=style), Text(""))]
    for part in told.of:
        rows += condition_tree(part, depth + 1)
    return rows


def quiet(words: str) -> Text:
    return Text(words, style=_QUIET)


# One lead ---------------------------------------------------------------------------------------------------------------


def say(found: LeadReport, zone: str, console: Console) -> None:
    """The whole report."""
    _head(found, zone, console)
    _firm(found, console)
    _score(found, zone, console)
    _ripeness(found, console)
    _with_sales(found, zone, console)
    _history(found, zone, console)
    _may_be_written_to(found, zone, console)
    _journeys(found, zone, console)
    _mails(found, zone, console)
    _events(found, zone, console)
    if found.ledger is not None:
        rows = [
            (local(line.at, zone), _signed(line.points), Text(line.rule), Text(line.event or "what the lead is"), quiet(line.version))
            for line in found.ledger
        ]
        section(console, "Ledger of the score", grid(rows, right=[1]) if rows else quiet("no row"))


def _head(found: LeadReport, zone: str, console: Console) -> None:
    person = found.person
    title = Text()
    title.append(person.name or person.email or person.user_id or "nameless", style="bold")
    if person.name and person.email:
        title.append(f"  {person.email}")
    title.append(f"  lead {person.id}, times in {zone}", style=_QUIET)
    console.print(title)
    if person.erased_at is not None:
        console.print(Text(f"erased on {local(person.erased_at, zone)}", style="red"))
    titled = f"{person.title} → {person.rank or 'no rank in mapping.csv'}" if person.title else person.rank
    field = f"{person.industry} → {person.industry_group or 'no group in mapping.csv'}" if person.industry else person.industry_group
    came = _came(person.first_source, person.first_campaign)
    last = _came(person.last_source, person.last_campaign)
    facts: list[tuple[str, object]] = [
        ("user id", person.user_id),
        ("title", titled),
        ("industry", field),
        ("people", person.company_size),
        ("language", " · ".join(one for one in (person.language, person.time_zone) if one)),
        ("tags", person.tags or None),
        ("topics", person.topics or None),
        ("came from", came if came == last or not last else f"{came} first, {last} last"),
        ("known since", f"{local(person.created_at, zone)} ({distance_words(person.created_at, found.now)})"),
        ("last active", _moment(person.active_at, found.now, zone)),
        ("sales spoke", _moment(person.contacted_at, found.now, zone)),
        ("browsers", person.browsers or None),
        ("opted out", _moment(person.opted_out_at, found.now, zone)),
        *((name, value) for name, value in sorted(person.attributes.items())),
    ]
    rows = [(quiet(name), Text(value_words(value, zone))) for name, value in facts if value not in (None, "", [])]
    console.print(Padding(grid(rows), (0, 0, 0, 2), expand=False))


def _firm(found: LeadReport, console: Console) -> None:
    firm = found.firm
    if firm is None:
        return
    name = firm.name or found.person.company or "?"
    rows = [
        (Text(one.name or one.called), Text(one.rank or one.title or ""), f"{one.score}", Text(one.stage), Text(_upper(one.qualification)))
        for one in firm.colleagues
    ]
    others = [quiet(f"and {firm.others} more")] if firm.others else []
    body = grid(rows, right=[2]) if rows else quiet("nobody else is known there")
    section(console, f"Company: {name}" + (f" ({firm.domain})" if firm.domain else ""), body, *others)


def _score(found: LeadReport, zone: str, console: Console) -> None:
    stage = found.stage.title or found.stage.stage
    said = f"{stage} ({found.stage.stage})" if found.stage.title else stage
    score = found.score
    if score is None:
        section(console, f"Score {found.row_score}, stage {said}, {_upper(found.qualification) or 'not qualified'}")
        console.print(quiet("  no scoring model was published yet: start the worker once"))
        return
    head = f"Score {score.score} = fit {_at_least(score.fit)} + engagement {_at_least(score.engagement)}"
    notes: list[RenderableType] = []
    if found.excluded:
        notes.append(Text(f"excluded as {', '.join(found.excluded)}: it moves to no stage and is never qualified", style="red"))
    if found.stage.by_rules is not None:
        notes.append(quiet(f"by the rules it is {found.stage.by_rules} by now; its row follows within a day, or with its next event"))
    if score.is_recounted:
        notes.append(quiet("counted here from its events: it has not been scored by the active model yet"))
    if score.published is not None:
        notes.append(quiet(f"the files say another model ({score.published}): mebae rescore makes it count"))
    rows: list[Sequence[RenderableType]] = []
    for rule in score.rules:
        rows += _rule(rule, zone)
    section(
        console,
        f"{head}   stage {said}   {_upper(found.qualification) or 'not qualified'}",
        *notes,
        grid(rows, right=[0]) if rows else quiet("no rule gives anything"),
    )
    lines: list[Sequence[RenderableType]] = []
    for one in score.thresholds:
        if not one.is_reached:
            words = f"{one.score - score.score} points below"
        elif one.until is None:
            words = "stays above"
        else:
            words = f"falls below on {local(one.until, zone)} ({distance_words(one.until, found.now)}): {one.then}"
        lines.append((Text("≥ " + str(one.score)), Text(one.of), Text(words)))
    change = f"the score next changes on {local(score.changes_at, zone)}" if score.changes_at else "time alone changes nothing"
    section(console, "If nothing happens", grid(lines, right=[0]), quiet(change))


def _rule(rule: Rule, zone: str) -> list[Sequence[RenderableType]]:
    about = []
    if rule.at_most is not None:
        about.append(f"{len(rule.events)} counted, at most {rule.at_most}" + (f" in {rule.per}" if rule.per else ""))
    elif rule.kind == "engagement":
        about.append(f"{len(rule.events)} counted")
    if rule.half_life is not None:
        about.append(f"halves in {rule.half_life}")
    named = [rule.rule] if rule.title != rule.rule else []
    said = [*(["fit"] if rule.kind == "fit" else about), *named]
    rows: list[Sequence[RenderableType]] = [
        (Text(_faded(rule.points, rule.worth)), Text(rule.title), quiet(" · ".join(said)))
    ]
    rows += [
        (Text(""), quiet(f"  {one.words}"), quiet(f"{local(one.at, zone)} · {_faded(one.points, one.worth)}"))
        for one in rule.events
    ]
    return rows


def _with_sales(found: LeadReport, zone: str, console: Console) -> None:
    row = found.with_sales
    if row is None:
        return
    since = f"{local(row.opened_at, zone)}" + (f" – {local(row.closed_at, zone)}" if row.closed_at is not None else "")
    due = f"due {local(row.due_at, zone)}" if row.due_at is not None else ""
    said = " · ".join(part for part in (row.status, row.reason or "", row.owner, since, due) if part)
    section(console, "With sales", grid([(Text(f"hand-over {row.id}"), Text(said))]))


def _ripeness(found: LeadReport, console: Console) -> None:
    ripe = found.ripeness
    if ripe is None:
        return
    title = f"{ripe.to.upper()}: its rule holds" if ripe.holds and not ripe.missing else f"Missing for {ripe.to.upper()}: {ripe.missing}"
    section(console, title, grid(condition_tree(ripe.of)))


def _history(found: LeadReport, zone: str, console: Console) -> None:
    rows = [
        (local(move.at, zone), Text(f"{move.was or '?'} → {move.to}"), quiet(f"score {move.score}" if move.score is not None else ""))
        for move in found.moves
    ]
    if rows:
        section(console, "Stage and qualification", grid(rows))
    if found.segments:
        section(
            console,
            "Segments",
            grid((Text(one.segment), Text(one.title), quiet(f"since {local(one.since, zone)}")) for one in found.segments),
        )


def topic_lines(mail: MailStanding) -> list[RenderableType]:
    """What the lead said of topics, as far as it counts; and the topics whose mails heed less than others."""
    lines: list[RenderableType] = []
    for heeded, words in ((True, "topics"), (False, "topics chosen before, which do not count now")):
        said = [one for one in mail.topics if one.wanted is not None and one.heeded == heeded]
        if said:
            chosen = ", ".join(f"{one.title or one.topic} {'yes' if one.wanted else 'no'}" for one in said)
            lines.append(Text(f"{words}: {chosen}", style="" if heeded else "dim"))
    return lines + [Text(exempt_words(one)) for one in mail.topics if one.differs]


def exempt_words(one: TopicTold) -> str:
    """What the mails of a topic do not heed, and whether one would go now."""
    called = f"{one.topic} ({one.title})" if one.title and one.title != one.topic else one.topic
    return f"topic {called}: {one.differs}; now: {one.now}"


def _may_be_written_to(found: LeadReport, zone: str, console: Console) -> None:
    """The answer of the gate for a mail of now, and what it rests on."""
    mail = found.mail
    rows: list[Sequence[RenderableType]] = []
    for one in mail.grounds:
        taken_back = f"withdrawn {local(one.withdrawn_at, zone)}" if one.withdrawn_at is not None else ""
        if not one.accepted:
            taken_back = taken_back or "not accepted by mailing.py"
        rows.append(
            (
                quiet(local(one.given_at, zone)), Text(f"{one.basis} {one.title}".strip()), Text(one.how), Text(one.source),
                quiet(value_words(one.wording or None)), Text(taken_back, style="yellow"),
            )
        )  # fmt: skip
    parts: list[RenderableType] = [grid(rows) if rows else quiet("no consent and no exemption is recorded")]
    if mail.opted_out_at is not None:
        parts.append(Text(f"unsubscribed on {local(mail.opted_out_at, zone)}", style="red"))
    if mail.suppressed is not None:
        parts.append(Text(f"its address is suppressed since {local(mail.suppressed_at, zone)}: {mail.suppressed}", style="red"))
    parts += topic_lines(mail)
    for cap in mail.caps:
        frees = f", a place is free from {local(cap.frees_at, zone)} on" if cap.frees_at is not None else ""
        parts.append(quiet(f"{cap.words}: {cap.used} of {cap.count} used{frees}"))
    if mail.hours:
        parts.append(quiet(f"mail goes out {mail.hours} ({mail.zone})"))
    if mail.cure:
        parts.append(quiet(f"What would change it: {mail.cure}"))
    section(console, f"Marketing mail now: {mail.words}", *parts)


def _journeys(found: LeadReport, zone: str, console: Console) -> None:
    rows = []
    for one in found.journeys:
        if one.status == "refused":
            what, when = Text(f"refused: {one.reason_words}", style="yellow"), local(one.entered_at, zone)
        elif one.ended_at is not None:
            because = f" ({one.reason_words})" if one.reason_words else ""
            what, when = Text(f"ended as {one.outcome}{because}"), f"{local(one.entered_at, zone)} – {local(one.ended_at, zone)}"
        elif one.status == "starting" and one.starts_at is not None and one.starts_at > found.now:
            what, when = Text(f"waits for its place: starts {local(one.starts_at, zone)}"), local(one.entered_at, zone)
        else:
            waits = f", waits for {one.waiting_for}" if one.waiting_for else ""
            until = f" until {local(one.until, zone)}" if one.until else ""
            paused = ", paused" if one.paused else ""
            what, when = Text(f"{one.status}{paused} at {one.step}{waits}{until}", style="cyan"), local(one.entered_at, zone)
        rows.append((str(one.entry), Text(f"{one.scenario}{f' [{one.key}]' if one.key else ''}"), quiet(when), what))
    section(console, "Journeys", grid(rows, right=[0]) if rows else quiet("none"))


def _mails(found: LeadReport, zone: str, console: Console) -> None:
    rows = []
    for one in found.mails:
        reason = f" ({one.reason})" if one.reason else ""
        again = f", next try {local(one.next_at, zone)}" if one.status == "postponed" and one.next_at else ""
        whom = " to sales" if one.kind == "sales" else ""
        moments = (("opened", one.opened_at), ("clicked", one.clicked_at), ("bounced", one.bounced_at))
        since = "".join(f", {what}" for what, at in moments if at is not None)
        fate = Text(f"{one.status}{reason}{again}{since}")
        rows.append((quiet(local(one.at, zone)), Text(f"{one.mail}{whom}"), fate, quiet(one.scenario)))
    section(console, "Mails", grid(rows) if rows else quiet("none"))


def _events(found: LeadReport, zone: str, console: Console) -> None:
    rows = [
        (quiet(local(one.occurred_at, zone)), Text(one.words), quiet("" if one.is_routed else "not routed yet"))
        for one in found.events
    ]
    shown = f"the latest {len(rows)} of {found.events_in_all}" if len(rows) < found.events_in_all else f"{len(rows)}"
    section(console, f"Events ({shown})", grid(rows) if rows else quiet("none"))


def _came(source: str | None, campaign: str | None) -> str | None:
    return " / ".join(one for one in (source, campaign) if one) or None


def _moment(moment: datetime | None, now: datetime, zone: str) -> str | None:
    return None if moment is None else f"{local(moment, zone)} ({distance_words(moment, now)})"


def _upper(qualification: str) -> str:
    return "" if qualification == "none" else qualification.upper()


def _faded(points: float, worth: float) -> str:
    now, then = points_words(points), points_words(worth)
    return now if now == then else f"{now} of {then}"


def _at_least(points: float) -> str:
    """Rounded down, as the score is: 29.97 and 35 are 64, and not 30 and 35."""
    return points_words(math.floor(round(points, 6) * 10) / 10)


def _signed(points: float) -> str:
    return f"+{points_words(points)}" if points >= 0 else points_words(points)


# Many leads -------------------------------------------------------------------------------------------------------------


_WITH_DAY = 100
"""Columns of a terminal from which on a list of leads has room for the day of the last event."""


def say_list(found: LeadList, zone: str, console: Console, *, excluded: bool) -> None:
    """The list, a line a lead."""
    if not found.leads:
        console.print(quiet("no lead is kept out" if excluded else "no lead matches"))
        return
    console.print(_list(found, zone, excluded) if console.width >= WIDE else _list_in_two_lines(found, zone, excluded, console.width))
    if excluded:
        console.print(quiet(f"{found.in_all} kept out: " + ", ".join(f"{rule} {count}" for rule, count in found.excluded.items())))
    elif found.in_all > len(found.leads):
        console.print(quiet(f"{len(found.leads)} of {found.in_all}; --limit shows more"))


def _list(found: LeadList, zone: str, excluded: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    last = "excluded as" if excluded else "last active"
    for name in ("lead", "name", "company", "title", "score", "stage", "qualified", last):
        table.add_column(name, justify="right" if name == "score" else "left", overflow="fold")
    for line in found.leads:
        title = f"{line.title} ({line.rank})" if line.title and line.rank and line.rank != line.title else line.title or line.rank
        table.add_row(
            Text(line.called), Text(line.name or ""), Text(line.company or ""), Text(title or ""), str(line.score),
            Text(line.stage), _upper(line.qualification),
            Text(", ".join(line.excluded)) if excluded else local(line.active_at, zone),
        )  # fmt: skip
    return table


def _list_in_two_lines(found: LeadList, zone: str, excluded: bool, width: int) -> Table:
    """For a terminal that is not wide: neither an address nor a word is broken in the middle as long as it fits at all."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("lead\ncompany", overflow="fold")
    table.add_column("name\ntitle", overflow="fold")
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("stage\nqualified", no_wrap=True)
    has_last = excluded or width >= _WITH_DAY
    if has_last:
        table.add_column("excluded as" if excluded else "last active", no_wrap=not excluded, overflow="fold")
    for line in found.leads:
        table.add_row(
            Text(f"{line.called}\n{line.company or ''}"), Text(f"{line.name or ''}\n{line.rank or line.title or ''}"), str(line.score),
            Text(f"{line.stage}\n{_upper(line.qualification)}"),
            *([Text(", ".join(line.excluded)) if excluded else local(line.active_at, zone)[:10]] if has_last else []),
        )  # fmt: skip
    return table


