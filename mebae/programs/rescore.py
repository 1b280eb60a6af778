"""`mebae rescore` and `mebae mapping`: another scoring model or table, who would move, and then all leads counted anew."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from sqlmodel import Session

from mebae import wiring
from mebae.errors import BadInput
from mebae.programs.screen import screen
from mebae.rescoring import BANDS, Group, Preview, Unmapped, preview, rescore, unmapped
from mebae.scoring_loading import MAPPING_FILE, SCORING_FILE, LoadedScoring, load_scoring
from mebae.scoring_mapping import Mapping
from mebae.scoring_model import ScoringModel
from mebae.settings import Settings
from mebae.store.database import Database
from mebae.store.recount import how_many
from mebae.store.scoring import Scoring, active_scoring, publish_scoring, scoring_version
from mebae.store.tables import PublishedScoring
from mebae.tracking_loading import load_plan

_BAR = 30
_SHOWN_UNMAPPED = 30


def rescore_leads(*, yes: bool, dry_run: bool, again: bool, wake: bool, processes: int | None) -> bool:
    """The whole command; False if the person said no."""
    settings = wiring.load_settings()
    loaded = _load(settings)
    database = wiring.open_now(settings)
    try:
        active, new = _models(settings, database, loaded, publish=not dry_run)
        left = database.read_now(how_many, new.version, again)
        if not left:
            if not dry_run:
                rescore(database, new, clock=lambda: wiring.world_now(settings), processes=0)
            screen().print(f"[green]✓[/] every lead is scored by model {new.version}: nothing to do (--again counts all anew)")
            return True
        _say_what_changed(active, new, left)
        with _bar("looking who would move", left) as moved:
            found = preview(
                database,
                new,
                clock=lambda: wiring.world_now(settings),
                again=again,
                processes=processes,
                progress=moved,
            )
        _say_preview(found, active, new)
        _say_unmapped_count(database.read_now(unmapped, new.mapping))
        if dry_run:
            screen().print("Nothing was written (--dry-run).")
            return True
        if not yes and not _asked(found.leads, wake):
            screen().print("Nothing was changed: leads are scored as before.")
            return False
        with _bar("rescoring", left) as moved:
            done = rescore(
                database, new, clock=lambda: wiring.world_now(settings), again=again, wake=wake, processes=processes,
                progress=moved,
            )  # fmt: skip
        routed = (
            "journeys that want them start and wake"
            if wake
            else "no journey starts from them (--wake-journeys would let them)"
        )
        screen().print(
            f"[green]✓[/] {done.leads:,} leads are scored by model {new.version}: {done.changes:,} rows of the ledger, "
            f"{done.moved:,} events of stage or qualification; {routed}",
            soft_wrap=True,
        )
        return True
    finally:
        database.close()


def _load(settings: Settings) -> LoadedScoring | None:
    home = settings.scenarios
    return load_scoring(home, plan=load_plan(home))


def _models(
    settings: Settings, database: Database, loaded: LoadedScoring | None, *, publish: bool
) -> tuple[Scoring | None, Scoring]:
    """The model that scores now, and the one that is to."""
    before = database.read_now(active_scoring)
    if loaded is not None:
        if publish:
            database.write_now(publish_scoring, loaded, wiring.world_now(settings))
        return before, Scoring(loaded.version, loaded.model, loaded.mapping)

    def published(session: Session) -> Scoring | None:
        row = session.get(PublishedScoring, 1)
        return None if row is None else scoring_version(session, row.published)

    new = database.read_now(published)
    if new is None:
        raise BadInput(
            f"there is no scoring model: write {settings.scenarios / SCORING_FILE} (docs/how-to/score-leads.md)"
        )
    return before, new


@contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[int, int], None]]:
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn(), TextColumn("left"),
    )  # fmt: skip
    with Progress(*columns, console=screen(), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done, of: bar.update(task, completed=done, total=of)


class _Rate(ProgressColumn):
    """Leads a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} leads/s" if task.speed else "")


def _asked(leads: int, wake: bool) -> bool:
    awake = ", and journeys start from what they become" if wake else ""
    try:
        answer = screen().input(f"Score {leads:,} leads by this model{awake}? \\[y/N] ")
    except EOFError:
        raise BadInput("nobody answers here: add --yes to go ahead, or --dry-run to look only") from None
    return answer.strip().casefold() in ("y", "yes", "はい")


# What is said -----------------------------------------------------------------------------------------------------------


def _say_what_changed(active: Scoring | None, new: Scoring, left: int) -> None:
    console = screen()
    if active is None or active.version == new.version:
        console.print(
            f"Scoring model [bold]{new.version}[/] is active; {left:,} leads are not counted by it yet, or are to be again."
        )
        return
    console.print(f"Scoring model {active.version} → [bold]{new.version}[/]: {left:,} leads would be scored anew.")
    for line in differing(active, new):
        console.print(f"  {escape(line)}")


def differing(old: Scoring, new: Scoring) -> list[str]:
    """The rules that are new, gone or changed, and how many rows of the table."""
    before, after = _rules(old.model), _rules(new.model)
    lines = [
        f"changed: {name}{_points(before[name], rule)}"
        for name, rule in after.items()
        if name in before and before[name] != rule
    ]
    lines += [f"new: {name}" for name in after if name not in before]
    lines += [f"gone: {name}" for name in before if name not in after]
    rows = len(set(old.mapping.rows) ^ set(new.mapping.rows))
    return [*lines, *([f"{MAPPING_FILE}: {rows} rows"] if rows else [])]


def _points(before: dict[str, Any], after: dict[str, Any]) -> str:
    was, now = before.get("points"), after.get("points")
    return f" ({was} → {now})" if was != now and not isinstance(was, dict) and not isinstance(now, dict) else ""


def _rules(model: ScoringModel) -> dict[str, dict[str, Any]]:
    named = {
        f"{kind} '{rule.id}'": rule.model_dump()
        for kind in ("fit", "engagement", "exclusions", "stages", "topics")
        for rule in getattr(model, kind)
    }
    named |= {f"qualification '{rule.to}'": rule.model_dump() for rule in model.qualifications}
    return {
        name.replace("exclusions", "exclusion").replace("stages", "stage").replace("topics", "topic"): its
        for name, its in named.items()
    }


def _say_preview(found: Preview, active: Scoring | None, new: Scoring) -> None:
    console = screen()
    console.print(f"\n[bold]Scores[/]: {found.changed:,} of {found.leads:,} leads would have another score")
    if found.changed:
        console.print(_histogram(found))
        table = _table("lead", "now", "then", "")
        for shift in (*found.up, *reversed(found.down)):
            table.add_row(escape(shift.name), str(shift.before), str(shift.after), f"{shift.by:+d}")
        console.print(table)
    titles = {**({} if active is None else active.model.stage_titles), **new.model.stage_titles}
    console.print(f"\n[bold]Stages[/]: {sum(group.count for group in found.moves.values()):,} leads would move")
    if found.moves:
        table = _table("from", "to", "leads", "for example")
        for (before, after), group in sorted(found.moves.items(), key=lambda one: -one[1].count):
            table.add_row(
                escape(_titled(before, titles)), escape(_titled(after, titles)), f"{group.count:,}", _named(group)
            )
        console.print(table)
    console.print(f"[bold]MQL[/]: {found.qualified.count:,} leads would become one {_named(found.qualified)}")
    for rule, group in sorted(found.excluded.items()):
        console.print(f"[bold]Excluded[/] as {escape(rule)}: {group.count:,} leads more {_named(group)}")
    if found.freed.count:
        console.print(f"[bold]No longer excluded[/]: {found.freed.count:,} leads {_named(found.freed)}")


def _histogram(found: Preview) -> Table:
    table, most = _table("points", "leads", ""), max(found.bands.values())
    low = None
    for end in (*BANDS, BANDS[-1] + 1):
        above = f"{low + 1:+d}" if low is not None else ""
        words = (
            f"{end:+d} and less"
            if low is None
            else f"{above} and more"
            if end > BANDS[-1]
            else f"{above} to {min(end, -1) if low < 0 else end:+d}"
        )
        if count := found.bands[end]:
            table.add_row(words, f"{count:,}", "█" * max(round(_BAR * count / most), 1))
        low = end
    return table


def _titled(stage: str, titles: dict[str, str]) -> str:
    return titles.get(stage) or stage


def _named(group: Group) -> str:
    more = " …" if group.count > len(group.examples) else ""
    return escape(", ".join(group.examples) + more)


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name, justify="right" if name in ("leads", "now", "then") else "left")
    return table


def _say_unmapped_count(found: Unmapped) -> None:
    if found.titles or found.industries:
        screen().print(
            f"[bold]Unmapped[/]: {len(found.titles):,} titles of {_leads_of(found.titles):,} leads, {len(found.industries):,} "
            f"industries of {_leads_of(found.industries):,} leads have no row in {MAPPING_FILE}; `mebae mapping` lists them"
        )


def _leads_of(values: list[tuple[str, int]]) -> int:
    return sum(count for _, count in values)


# mebae mapping ----------------------------------------------------------------------------------------------------------


def list_unmapped(*, limit: int, lines_only: bool) -> None:
    """Lists raw titles and industries that no row fits, and the lines to paste."""
    settings = wiring.load_settings()
    loaded = _load(settings)
    database = wiring.open_now(settings)
    try:
        mapping = loaded.mapping if loaded is not None else _published_mapping(database)
        found = database.read_now(unmapped, mapping)
    finally:
        database.close()
    kinds = (("rank", "title (役職)", found.titles), ("industry", "industry (業種)", found.industries))
    if not lines_only:
        for _, what, values in kinds:
            _say_values(what, values[:limit], len(values))
        if not any(values for *_, values in kinds):
            return
        ranks, groups = (" / ".join(mapping.names(kind)) for kind in ("rank", "industry"))
        screen().print(
            f"\nPaste into {settings.scenarios / MAPPING_FILE}, and write what each means after the last comma "
            f"(rank: {escape(ranks or '…')}; industry: {escape(groups or '…')}). Then run: mebae rescore\n"
        )
    for kind, _, values in kinds:
        for raw, _count in values[:limit]:
            print(csv_line(kind, raw))


def csv_line(kind: str, raw: str) -> str:
    """A line of the table, its meaning left open.

    >>> csv_line("rank", "匠, 主席")
    'rank,"匠, 主席",'
    """
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([kind, " ".join(raw.split()), ""])
    return line.getvalue()


def _published_mapping(database: Database) -> Mapping:
    active = database.read_now(active_scoring)
    return Mapping() if active is None else active.mapping


def _say_values(what: str, values: list[tuple[str, int]], of: int) -> None:
    console = screen()
    if not values:
        console.print(f"[green]✓[/] every {what} has a row in {MAPPING_FILE}")
        return
    table = _table("leads", what)
    for raw, count in values:
        table.add_row(f"{count:,}", escape(raw))
    console.print(table)
    if of > len(values):
        console.print(f"… and {of - len(values):,} more (--limit)")
