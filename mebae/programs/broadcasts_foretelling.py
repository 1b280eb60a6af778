"""What broadcasts would do: for `mebae check`, which says more of it where there is a database that answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mebae import wiring
from mebae.broadcast_foretelling import Foretold
from mebae.broadcasts_loading import FOLDERS, LoadedBroadcast
from mebae.errors import Problem
from mebae.programs.broadcast_sending import foretold
from mebae.programs.broadcasts import world_of
from mebae.programs.foretelling import asked
from mebae.programs.languages import foreign_of, foreign_words
from mebae.programs.screen import local
from mebae.pyfile import place
from mebae.recurring import Once, words
from mebae.reports.broadcasts import next_time
from mebae.reports.mail_words import UNSET
from mebae.settings import Settings
from mebae.store.broadcast_leads import count_members
from mebae.store.broadcast_results import runs_of
from mebae.store.database import Database

MOST = 20_000
"""Leads up to which a check asks the gate about each; it is to answer at once."""


class Said(NamedTuple):
    lines: list[str]
    problems: list[Problem]


def coming(loaded: Sequence[LoadedBroadcast], settings: Settings, root: Path) -> Said:
    """When each goes out and how many leads would get it today; and what can never go out any more."""
    said = Said([], [])
    now, world = wiring.world_now(settings), world_of(settings)
    for one in loaded:
        plan = one.plan
        when = words(plan.schedule) if plan.schedule is not None else "by hand"
        following = next_time(plan, world, now)
        many, ran = asked(settings, root, lambda database, one=one: _asked(database, one, settings)) or (None, None)  # type: ignore[misc]
        if isinstance(plan.schedule, Once) and following is None:
            if ran is False:
                message = f'on("{plan.schedule.day}", …) is past, and it was never sent: write another day'
                said.problems.append(Problem(file=place(one.file, folders=FOLDERS), message=message))
            following_words = ", which is past"
        else:
            following_words = f", next {local(following, settings.time_zone)}" if following is not None else ""
        said.lines.append(f"{plan.broadcast}: {when}{following_words}{'' if many is None else f'; {many}'}")
    return said


def _asked(database: Database, one: LoadedBroadcast, settings: Settings) -> tuple[str, bool]:
    """How many leads would get it, and whether it ever had a run."""
    ran = bool(database.read_now(runs_of, one.plan.broadcast, limit=1))
    members = database.read_now(count_members, one.plan, wiring.world_now(settings))
    if members > MOST:
        return f"{members:,} leads are in it (mebae broadcasts send {one.plan.broadcast} --dry-run asks the gate)", ran
    sources = {language: source for (mail, language), source in one.sources().items() if mail == one.plan.mail}
    return _words(database.read_now(foretold, one.plan, sources, settings), settings.time_zone), ran


def _words(found: Foretold, zone: str) -> str:
    said = f"{found.go:,} of {found.members:,} {'lead' if found.members == 1 else 'leads'} would get it now"
    stuck, refused = found.postponed[UNSET], found.refused.total()
    waiting = found.postponed.total() - stuck
    until = [first for reason, (first, _) in found.until.items() if reason != UNSET]
    later = f", {waiting:,} later (from {local(min(until), zone)} on)" if until else ""
    later += f", {stuck:,} once the settings are there ({UNSET})" if stuck else ""
    foreign = foreign_of(found.readers)
    later += f", {foreign_words(foreign)}" if foreign else ""
    return said + later + (f", {refused:,} would be refused" if refused else "")
