"""Segments as data: what `scenarios/segments.py` compiles to, and what is published. The condition is kept as its JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import NamedTuple, Self

from pydantic import TypeAdapter

from mebae.checking import Checker
from mebae.conditions import Condition, parts_of, refs_of
from mebae.segments_language import Segment
from mebae.timing import Duration

SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_CONDITION: TypeAdapter[Condition] = TypeAdapter(Condition)

LONGEST_ID = 60
"""Characters of a segment's id: it is part of message ids."""


class Saved(NamedTuple):
    """A segment that can be asked for."""

    id: str
    title: str
    condition: Condition

    def dump(self) -> str:
        """The condition's JSON; equal conditions give equal text."""
        plain = _CONDITION.dump_python(self.condition, mode="json")
        return json.dumps(plain, ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    @classmethod
    def load(cls, id: str, title: str, condition: str) -> Self:
        """Raises `ValueError` for a condition that this version of Mebae does not know."""
        return cls(id, title, _CONDITION.validate_json(condition))

    @property
    def asks_score(self) -> bool:
        """Whether it looks at something that fades with time, and so may be older than the last refresh in SQL."""
        return not FADING.isdisjoint(refs_of(self.condition))


FADING = frozenset({"lead.score", "lead.stage", "lead.qualification", "lead.topics"})


def compile_segments(segments: Sequence[Segment], checker: Checker) -> list[Saved]:
    """The segments, checked; what is wrong is in `checker.problems`, all at once. `checker` brings what scenarios are held to."""
    seen: set[str] = set()
    saved = []
    for segment in segments:
        place = f"segment '{segment.id}': "
        if not SLUG.fullmatch(segment.id) or len(segment.id) > LONGEST_ID:
            checker.report(
                None,
                f'Segment({segment.id!r}, …): the id is lower-case words joined by hyphens, such as "dormant", '
                f"of {LONGEST_ID} characters at most",
            )
        elif segment.id in seen:
            checker.report(None, f"two segments are called '{segment.id}': an id is there once")
        seen.add(segment.id)
        condition = checker.condition(segment.when, None, place)
        report_impossible(condition, checker, place)
        saved.append(Saved(segment.id, segment.title, condition))
    return saved


def report_impossible(condition: Condition, checker: Checker, place: str) -> None:
    """Reports what can be asked of one lead on a journey, and not of all leads."""
    for ref in refs_of(condition):
        if ref.startswith("entry."):
            checker.report(None, f"{place}{ref} is known only within a journey: a segment asks for lead.… and did(…)")
    for part in parts_of(condition):
        for span in (getattr(part, "within", None), getattr(part, "span", None)):
            if isinstance(span, Duration) and span.business_days:
                checker.report(None, f"{place}a condition counts no business days: write days(…)")
