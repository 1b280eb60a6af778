"""Raw 役職 and 業種 → ranks and groups, by a table that people edit (`scenarios/mapping.csv`).

A row says: where a title contains `raw`, it means `means`. Width, capitals and spaces do not count (NFKC, casefold);
words in Latin letters must stand alone, so that `VP` is not found in `MVP`. The longest match wins; of two equally long
the one whose row stands higher in the table, so list the higher ranks first: 部長兼課長 is a 部長. A row without `means`
hides its text from shorter rows: 社長室 is no 社長.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from typing import Literal

from mebae.conditions import Data
from mebae.errors import Problem, ScenarioError, did_you_mean

Kind = Literal["rank", "industry"]
KINDS: tuple[Kind, ...] = ("rank", "industry")
_COLUMNS = ("kind", "raw", "means")
_REMEMBERED = 50_000
"""Titles repeat: so many answers are kept."""


class Mapping(Data):
    """The table, read and normalised.

    >>> table = Mapping.load("kind,raw,means\\nrank,部長,部長\\nrank,部長代理,課長\\nindustry,メーカー,manufacturing\\n")
    >>> table.rank("営業部 部長代理"), table.rank("部　長"), table.rank("平"), table.group("自動車メーカー")
    ('課長', '部長', None, 'manufacturing')
    """

    rows: tuple[tuple[Kind, str, str], ...] = ()
    """Kind, normalised raw text, what it means ("" hides)."""

    @classmethod
    def load(cls, text: str, file: str = "mapping.csv") -> Mapping:
        """Reads CSV with the columns kind (rank or industry), raw, means, and any others (notes).

        Raises `ScenarioError` with every problem, each with its line.
        """
        problems: list[Problem] = []
        found: dict[tuple[Kind, str], tuple[str, int]] = {}
        reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), skipinitialspace=True)
        missing = [name for name in _COLUMNS if name not in [(one or "").strip() for one in reader.fieldnames or ()]]
        if missing:
            cure = f"the first line has no column {' and no '.join(missing)}: write kind,raw,means"
            raise ScenarioError([Problem(file=f"{file}:1", message=cure)])

        def report(message: str) -> None:
            problems.append(Problem(file=f"{file}:{reader.line_num}", message=message))

        for row in reader:
            kind, raw, means = (" ".join(str(row.get(name) or "").split()) for name in _COLUMNS)
            if not kind and not raw and not means:
                continue
            known = next((one for one in KINDS if one == kind), None)
            if known is None:
                report(f"'{kind}' is no kind{did_you_mean(kind, KINDS)}")
            elif not normalise(raw):
                report("raw is empty: write what titles or industries contain")
            else:
                before = found.setdefault((known, normalise(raw)), (means, reader.line_num))
                if before[0] != means:
                    report(f"'{raw}' already means '{before[0]}' in line {before[1]}: keep one of the two")
        if problems:
            raise ScenarioError(problems)
        return cls(rows=tuple((kind, raw, means) for (kind, raw), (means, _) in found.items()))

    def rank(self, title: object) -> str | None:
        """The rank of a raw title; None if no row fits."""
        return self._means("rank", title)

    def group(self, industry: object) -> str | None:
        """The group of a raw industry; None if no row fits."""
        return self._means("industry", industry)

    def names(self, kind: Kind) -> tuple[str, ...]:
        """What the table can answer, in the order of its rows."""
        return tuple(dict.fromkeys(means for its, _, means in self.rows if its == kind and means))

    def unmapped(self, kind: Kind, values: Iterable[object]) -> list[tuple[str, int]]:
        """The raw values that no row fits, with how often they come, the most frequent first.

        >>> Mapping().unmapped("rank", ["匠", "匠", "", None, "導師"])
        [('匠', 2), ('導師', 1)]
        """
        raw = Counter(value for value in values if isinstance(value, str) and value.strip())
        missed = [(value, count) for value, count in raw.items() if self._means(kind, value) is None]
        return sorted(missed, key=lambda one: (-one[1], one[0]))

    @property
    def version(self) -> str:
        """The hash of the content, the order of its rows included."""
        return hashlib.sha256(json.dumps(self.rows, ensure_ascii=False).encode()).hexdigest()[:16]

    def _means(self, kind: Kind, value: object) -> str | None:
        if not isinstance(value, str) or not value.strip():
            return None
        answers = self._answers
        if (kind, value) not in answers:
            if len(answers) >= _REMEMBERED:
                answers.clear()
            answers[kind, value] = _longest(self._patterns[kind], normalise(value))
        return answers[kind, value]

    @cached_property
    def _answers(self) -> dict[tuple[Kind, str], str | None]:
        return {}

    @cached_property
    def _patterns(self) -> dict[Kind, list[tuple[str, re.Pattern[str], str]]]:
        return {kind: [(raw, _alone(raw), means) for its, raw, means in self.rows if its == kind] for kind in KINDS}


def normalise(text: str) -> str:
    """What is compared: NFKC, casefold, no spaces but those between Latin words, and no dots in `V.P.`

    >>> normalise("ＶＰ　of  Sales"), normalise("ﾏﾈｰｼﾞｬｰ"), normalise("営業 部長"), normalise("Vice-President")
    ('vp of sales', 'マネージャー', '営業部長', 'vice president')
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    folded = re.sub(r"(?<=\b[a-z])\.", "", folded)
    folded = re.sub(r"(?<=[a-z0-9])[\s\-_/,.&]+(?=[a-z0-9])", " ", folded)
    return re.sub(r"(?<![a-z0-9])\s+|\s+(?![a-z0-9])", "", folded).strip()


def _alone(raw: str) -> re.Pattern[str]:
    before = r"(?<![a-z0-9])" if raw[0].isascii() and raw[0].isalnum() else ""
    after = r"(?![a-z0-9])" if raw[-1].isascii() and raw[-1].isalnum() else ""
    return re.compile(f"{before}{re.escape(raw)}{after}")


def _longest(patterns: Iterable[tuple[str, re.Pattern[str], str]], text: str) -> str | None:
    matches = [
        (-len(raw), row, found.start(), means)
        for row, (raw, pattern, means) in enumerate(patterns)
        if raw in text
        for found in pattern.finditer(text)
    ]
    hidden: list[tuple[int, int]] = []
    for length, _, start, means in sorted(matches):
        end = start - length
        if any(start < its_end and end > its_start for its_start, its_end in hidden):
            continue
        if means:
            return means
        hidden.append((start, end))
    return None
