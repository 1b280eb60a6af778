"""What stands beside the scenarios: the tracking plan, the scoring model and the segments, read and checked together.

They are read in the order in which they need each other, and give the words that scenarios are checked against. A file that
is broken leaves its words unchecked, so that its own problems are not told again by every scenario.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from mebae.content_loading import CONTENT_FILE, load_content
from mebae.crm.model import CrmRules
from mebae.crm_loading import CRM_FILE, load_crm
from mebae.errors import Problem, ScenarioError
from mebae.forms_loading import FORMS_FILE, load_forms
from mebae.mail.shared import blocks_of
from mebae.mailing import MailRules
from mebae.mailing_loading import MAILING_FILE, load_mailing
from mebae.mails_loading import BLOCKS_FOLDER, LAYOUTS_FOLDER, block_names, layout_names, load_blocks, load_layouts
from mebae.sales import SalesRules
from mebae.sales_loading import SALES_FILE, load_sales
from mebae.scoring_loading import LoadedScoring, load_scoring
from mebae.segments import Saved
from mebae.segments_loading import load_segments
from mebae.tracking import TrackingPlan
from mebae.tracking_loading import load_plan
from mebae.vocabulary import Vocabulary

Read = TypeVar("Read")

UNKNOWN = Vocabulary(stages=None)
"""What is known of the words of a scoring model that can not be read: nothing."""

READERS: dict[str, Callable[[Path, Vocabulary], object]] = {
    FORMS_FILE: lambda home, _: load_forms(home),
    CONTENT_FILE: load_content,
    MAILING_FILE: lambda home, _: load_mailing(home),
    SALES_FILE: lambda home, known: load_sales(home, known=known),
    LAYOUTS_FOLDER: lambda home, _: load_layouts(home),
    BLOCKS_FOLDER: lambda home, _: _by_name(load_blocks(home)),
}
"""Further files and folders, each read and checked with the words of those before it; a reader raises `ScenarioError`, and answers None
if there is no such file."""


@dataclass(frozen=True)
class Beside:
    """The files beside the scenarios. What could not be read is None, and among the problems."""

    known: Vocabulary
    plan: TrackingPlan | None
    scoring: LoadedScoring | None
    segments: list[Saved] | None
    others: dict[str, object]
    """What `READERS` gave, by the name of the file."""
    problems: tuple[Problem, ...]

    @property
    def mailing(self) -> MailRules:
        """The rules of mail, with the catalogue that it chooses from; the defaults where there is no `mailing.py`."""
        found, pieces = self.others.get(MAILING_FILE), self.others.get(CONTENT_FILE)
        rules = found if isinstance(found, MailRules) else MailRules()
        return replace(rules, catalogue=tuple(pieces.values())) if isinstance(pieces, dict) else rules

    @property
    def sales(self) -> SalesRules | None:
        """The rules of hand-over; None where there is no `sales.py`."""
        found = self.others.get(SALES_FILE)
        return found if isinstance(found, SalesRules) else None

    @property
    def crm(self) -> CrmRules | None:
        """The CRM systems; None where there is no `crm.py`."""
        found = self.others.get(CRM_FILE)
        return found if isinstance(found, CrmRules) else None


def load_beside(home: Path) -> Beside:
    """Reads every file beside the scenarios of this `scenarios` folder; raises nothing, the problems are in the answer."""
    problems: list[Problem] = []

    def read(reader: Callable[[], Read]) -> Read | None:
        try:
            return reader()
        except ScenarioError as error:
            problems.extend(error.problems)
            return None

    home = Path(home).resolve()
    plan = read(lambda: load_plan(home))
    before = len(problems)
    scoring = read(lambda: load_scoring(home, plan=plan))
    if len(problems) > before:
        known = replace(UNKNOWN, plan=plan)
    else:
        known = Vocabulary.of(scoring=None if scoring is None else (scoring.model, scoring.mapping), plan=plan)
    segments = read(lambda: load_segments(home, known=known))
    if segments is not None:
        known = replace(known, segments=tuple(segment.id for segment in segments))
    others = {name: read(lambda reader=reader: reader(home, known)) for name, reader in READERS.items()}  # type: ignore[misc]
    sales = others.get(SALES_FILE)
    others[CRM_FILE] = read(lambda: load_crm(home, known=known, sales=sales if isinstance(sales, SalesRules) else None))
    forms = others.get(FORMS_FILE)
    if isinstance(forms, dict):
        known = replace(known, forms=tuple(forms))
    pieces = others.get(CONTENT_FILE)
    if isinstance(pieces, dict) or not (home / CONTENT_FILE).is_file():
        known = replace(known, pieces=tuple(pieces) if isinstance(pieces, dict) else ())
    rules = others.get(MAILING_FILE)
    if isinstance(rules, MailRules) and rules.topics:
        known = replace(known, mail_topics=tuple(topic.id for topic in rules.topics))
    known = replace(known, layouts=layout_names(home), blocks=block_names(home))
    return Beside(known, plan, scoring, segments, others, tuple(problems))


def _by_name(blocks: dict[tuple[str, str], str] | None) -> dict[str, dict[str, str]] | None:
    return None if blocks is None else blocks_of(blocks)
