"""Which column of a list means what: by its heading, or as the user says (`ご所属=company`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mebae.errors import BadInput, did_you_mean
from mebae.sheets import Row, Sheet
from mebae.store.traits import HEADINGS, LONGEST_KEY, field_of, heading_key

OWN = "lead."
"""Before the name of an attribute that is the user's own, as in scenarios: `lead.budget`."""
IGNORE = "ignore"

OF_LISTS: dict[str, tuple[str, ...]] = {
    "source": (
        "lead source",
        "utm_source",
        "流入元",
        "流入経路",
        "獲得経路",
        "獲得元",
        "リードソース",
        "ソース",
        "媒体",
    ),
    "campaign": ("campaign name", "utm_campaign", "キャンペーン", "キャンペーン名", "施策", "施策名"),
    "first_source": ("初回流入元",),
    "first_campaign": ("初回キャンペーン",),
    "last_source": ("最終流入元",),
    "last_campaign": ("最終キャンペーン",),
    "consent": (
        "opt in",
        "optin",
        "同意",
        "メール同意",
        "メール配信同意",
        "メール配信",
        "配信同意",
        "配信許可",
        "メルマガ同意",
    ),
    "consent_date": ("consent at", "opt in date", "同意日", "同意日時", "名刺交換日", "名刺受領日", "名刺取得日"),
    "consent_wording": ("consent text", "同意文言", "同意文"),
}
"""What a list may say beside the lead's own fields (`traits.HEADINGS`): where it is from, and what it agreed to."""

FIELDS = (*HEADINGS, *OF_LISTS)
_BY_KEY = {heading_key(name): field for field, names in OF_LISTS.items() for name in (field, *names)}
_LOOKED_AT = 20
"""Rows among which the headings are looked for: lists often begin with a title."""


@dataclass(frozen=True)
class Columns:
    """The headings of a table and what they mean."""

    headings: list[str]
    fields: list[str | None]
    """For each: a field, None for an attribute under the heading's name, `lead.x`, or `ignore`."""
    line: int

    @property
    def kept(self) -> list[str]:
        """The headings that neither mean something by themselves nor were given a meaning."""
        return [name for name, its in zip(self.headings, self.fields, strict=True) if name and its is None]

    def heading_of(self, field: str) -> str | None:
        """The heading under which this field stands."""
        return next((name for name, its in zip(self.headings, self.fields, strict=True) if its == field), None)

    def read(self, cells: Sequence[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """A row as (what says of the lead, by heading; the fields of `OF_LISTS`)."""
        said: dict[str, Any] = {}
        of_list: dict[str, Any] = {}
        for heading, field, cell in zip(self.headings, self.fields, cells, strict=True):
            if not heading or field == IGNORE or cell == "":
                continue
            if field in OF_LISTS:
                of_list[field] = cell
            elif field is None:
                said.setdefault(heading, cell)
            elif field.startswith(OWN):
                said[field.removeprefix(OWN)] = cell
            else:
                said[field] = cell
        return said, of_list


def read_mapping(path: Path) -> dict[str, str]:
    """A file of `heading: field` lines (YAML). `BadInput` if it holds anything else."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise BadInput(f"{path}: there is no such file: check the path") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInput(
            f"{path}: cannot be read ({type(error).__name__}): write a line 'heading: field' for each column"
        ) from None
    if not isinstance(found, dict):
        raise BadInput(
            f"{path}: holds no mapping: write a line 'heading: field' for each column, such as 'ご所属: company'"
        )
    return {str(heading): _target(str(field), f"{path}: '{heading}: {field}'") for heading, field in found.items()}


def parse_mapping(pairs: Iterable[str]) -> dict[str, str]:
    """What `--map heading=field` said."""
    mapping = {}
    for pair in pairs:
        heading, equals, field = pair.rpartition("=")
        if not equals or not heading.strip() or not field.strip():
            raise BadInput(f"--map '{pair}': write heading=field, such as 'ご所属=company'")
        mapping[heading.strip()] = _target(field, f"--map '{pair}'")
    return mapping


def _target(written: str, place: str) -> str:
    field = written.strip()
    if field.startswith(OWN):
        if 0 < len(field.removeprefix(OWN)) <= LONGEST_KEY:
            return field
        raise BadInput(f"{place}: write a name of 1 to {LONGEST_KEY} characters after '{OWN}'")
    known = (*FIELDS, IGNORE)
    if field in known:
        return field
    near = did_you_mean(field, known)
    raise BadInput(f"{place}: '{field}' is no field{near} (an attribute of your own is written {OWN}{field})")


def find_columns(
    path: Path, tables: Sequence[Sheet], mapping: Mapping[str, str], needed: Mapping[str, str]
) -> tuple[Sheet, Columns]:
    """The reading of the file whose first rows hold a column of addresses, and its columns.

    `mapping` may name headings that are not there; each of `needed` (heading → where it was said) must be.
    """
    by_key = {heading_key(heading): field for heading, field in mapping.items()}
    first: Row | None = None
    for table in tables:
        for looked, row in enumerate(table.rows()):
            if looked == _LOOKED_AT:
                break
            if row.problem is not None:
                if first is None:
                    raise BadInput(f"{path}: line {row.line} {row.problem}: save it as CSV again")
                break
            first = first or row
            headings = _headings(row.cells)
            fields = [_meant(heading, by_key) for heading in headings]
            if "email" in fields:
                return table, _checked(path, Columns(headings, fields, row.line), needed)
    if first is None:
        raise BadInput(
            f"{path}: the file is empty: it needs a line of headings, such as 'email,name,company', and rows"
        )
    shown = ", ".join(f"'{str(heading)[:30]}'" for heading in first.cells[:12] if heading != "")
    raise BadInput(
        f"{path}: no column holds addresses (found {shown}): name one 'email' or 'メールアドレス', or say which: --map 'heading=email'"
    )


def _headings(cells: Sequence[Any]) -> list[str]:
    """The headings as text, without empty ones at the end; a repeated one gets a number."""
    headings: list[str] = []
    for cell in cells:
        plain = " ".join(str(cell).split())
        name, number = plain, 2
        while name and name in headings:
            name, number = f"{plain} {number}", number + 1
        headings.append(name)
    while headings and not headings[-1]:
        headings.pop()
    return headings


def _meant(heading: str, by_key: Mapping[str, str]) -> str | None:
    key = heading_key(heading)
    if key in by_key:
        return by_key[key]
    if heading.startswith(OWN) and 0 < len(heading) - len(OWN) <= LONGEST_KEY:
        return heading  # as an export names an attribute that is called like a field
    return field_of(heading) or _BY_KEY.get(key)


def _checked(path: Path, columns: Columns, needed: Mapping[str, str]) -> Columns:
    there = {heading_key(heading) for heading in columns.headings}
    for heading, place in needed.items():
        if heading_key(heading) not in there:
            near = did_you_mean(heading, [name for name in columns.headings if name])
            raise BadInput(f"{path}: {place}: there is no column '{heading}'{near}")
    counted = Counter(field for field in columns.fields if field not in (None, IGNORE))
    twice = [field for field, times in counted.items() if times > 1]
    if twice:
        both = [f"'{name}'" for name, field in zip(columns.headings, columns.fields, strict=True) if field == twice[0]]
        raise BadInput(
            f"{path}: the columns {' and '.join(both)} both mean {twice[0]}: rename or remove one, "
            f"or leave it out: --map {both[1]}=ignore"
        )
    return columns
