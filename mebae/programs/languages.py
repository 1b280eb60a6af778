"""Leads that would read a mail in another language than theirs: for `mebae check` and dry runs. A hint, never a fault: a house may
well write to all of them in one language."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path

from sqlalchemy import ColumnElement, true
from sqlmodel import Session, col, func, select

from mebae import wiring
from mebae.errors import BadInput, Problem
from mebae.loading import Loaded
from mebae.mail.shared import choose_language
from mebae.mailing import MailRules
from mebae.programs.foretelling import asked
from mebae.pyfile import place
from mebae.settings import Settings
from mebae.store.conditions_sql import to_sql
from mebae.store.database import Database
from mebae.store.scoring import stages_of
from mebae.store.tables import Lead

NAMED = 5
"""Mails that are named in one hint."""


def is_foreign(theirs: str, text: str) -> bool:
    """Whether a text is in another language than a lead's. `""`: the text for every language.

    >>> is_foreign("en-GB", "en"), is_foreign("fr", ""), is_foreign("fr", "ja")
    (False, False, True)
    """
    return text != "" and _base(theirs) != _base(text)


def foreign_of(readers: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], int]:
    """Of readers by their language and the text's those whose text is in another one."""
    return {(theirs, text): many for (theirs, text), many in readers.items() if is_foreign(theirs, text)}


def foreign_words(foreign: Mapping[tuple[str, str], int]) -> str:
    """How many leads of which language would read which.

    >>> foreign_words({("en", "ja"): 10, ("fr", "ja"): 2})
    '12 of them in another language than theirs (10 en → ja, 2 fr → ja)'
    """
    parts = [f"{many:,} {theirs} → {text}" for (theirs, text), many in sorted(foreign.items(), key=lambda one: (-one[1], one[0]))]
    return f"{sum(foreign.values()):,} of them in another language than theirs ({', '.join(parts)})"


def read_abroad(loaded: Iterable[Loaded], rules: MailRules, settings: Settings, root: Path) -> list[Problem]:
    """For each scenario and language of its leads the mails that have no text in it; nothing where no database answers."""
    scenarios = list(loaded)

    def ask(database: Database) -> list[Problem]:
        return [hint for one in scenarios for hint in _hints(one, database.read_now(_languages, one, wiring.world_now(settings)), rules)]

    return asked(settings, root, ask) or []


def _languages(session: Session, one: Loaded, now: datetime) -> dict[str, int]:
    """How many leads of the scenario's audience have which language."""
    query = select(Lead.language, func.count(col(Lead.id))).where(col(Lead.erased_at).is_(None), col(Lead.email).is_not(None))
    found: Counter[str] = Counter()
    for language, many in session.exec(query.where(_audience(session, one, now)).group_by(col(Lead.language))):
        found[_base(language)] += many
    return dict(found)


def _audience(session: Session, one: Loaded, now: datetime) -> ColumnElement[bool]:
    try:
        return true() if one.graph.audience is None else to_sql(one.graph.audience, now, stages=stages_of(session))
    except BadInput:  # it asks for the entry, which there is not yet
        return true()


def _hints(one: Loaded, languages: Mapping[str, int], rules: MailRules) -> list[Problem]:
    texts: dict[str, list[str]] = {}
    for mail, language in one.mails:
        texts.setdefault(mail, []).append(language)
    hints = []
    for theirs, many in sorted(languages.items(), key=lambda each: (-each[1], each[0])):
        got = {mail: choose_language(written, theirs, rules.languages) for mail, written in sorted(texts.items())}
        foreign = {mail: text for mail, text in got.items() if is_foreign(theirs, text)}
        if not foreign:
            continue
        named = ", ".join(list(foreign)[:NAMED]) + (f" and {len(foreign) - NAMED} more" if len(foreign) > NAMED else "")
        leads = "1 lead reads" if many == 1 else f"{many:,} leads read"
        first = next(iter(foreign))
        hints.append(
            Problem(
                file=place(one.file, folders=2),
                message=f"{leads} {theirs}, and would get {len(foreign)} of its {len(texts)} mails in "
                f"{', '.join(sorted(set(foreign.values())))}: {named}; a text in their language is a file such as {first}.{theirs}.md",
            )
        )
    return hints


def _base(language: str) -> str:
    return language.replace("_", "-").partition("-")[0].lower()
