"""One row of a list: who it is, what it says of the lead and what it agreed to; or everything that is wrong with it."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from pydantic import AwareDatetime, BaseModel, ConfigDict

from mebae.columns import OWN, Columns
from mebae.errors import BadInput
from mebae.sheets import Row
from mebae.store.leads import LONGEST_ID, Who, normalise_email
from mebae.store.traits import Reading, read_traits

_YES = frozenset(
    {"yes", "y", "true", "t", "1", "on", "ok", "o", "○", "〇", "◯", "◎", "✓", "✔", "レ", "はい", "同意", "同意する", "同意した", "同意済",
     "同意済み", "許可", "可", "有", "あり", "希望", "希望する", "承諾", "受け取る"}
)  # fmt: skip
_NO = frozenset(
    {"no", "n", "false", "f", "0", "off", "x", "×", "✕", "✗", "-", "−", "ー", "いいえ", "不同意", "同意しない", "拒否", "不可", "無",
     "なし", "未", "未同意", "希望しない", "不要", "受け取らない"}
)  # fmt: skip


class RowProblem(BaseModel):
    """One thing wrong with one row. The row was left out."""

    line: int
    column: str | None = None
    """The heading as it stands in the file; None if the whole row is meant."""
    value_hint: str = ""
    """The beginning of what stands there. Personal data: for the person at the screen, not for a log."""
    reason: str

    def __str__(self) -> str:
        place = f"line {self.line}" + (f", column '{self.column}'" if self.column else "")
        return f"{place}: {self.reason}" + (f" (found '{self.value_hint}')" if self.value_hint else "")


class ConsentSaid(BaseModel):
    """What the person who imports says of all the list's consents; a column may say otherwise of a row."""

    model_config = ConfigDict(frozen=True)

    how: str | None = None
    """`business-card`, `form` …; None: only rows whose column says yes have one, as `import`."""
    wording: str = ""
    given_at: AwareDatetime | None = None
    """None: when it is imported."""


class ReadRow(NamedTuple):
    """What a row says."""

    who: Who
    reading: Reading
    of_list: dict[str, Any]
    consent: ConsentSaid | None


class RowReader:
    """Reads the rows of one list."""

    def __init__(
        self,
        columns: Columns,
        ragged: bool,
        consent: ConsentSaid,
        stages: Mapping[str, str],
        zone: ZoneInfo,
        now: datetime,
    ) -> None:
        self._columns, self._ragged, self._consent = columns, ragged, consent
        self._stages, self._zone, self._now = stages, zone, now

    def read(self, row: Row) -> tuple[ReadRow | None, list[RowProblem]]:
        """What the row says, or everything that is wrong with it."""
        columns, problems = self._columns, list[RowProblem]()
        cells, wanted = row.cells, len(columns.headings)
        if row.problem is None and self._ragged:
            cells = (cells + [""] * wanted)[:wanted]
        while len(cells) > wanted and cells[-1] == "":
            cells = cells[:-1]
        if row.problem is not None or len(cells) != wanted:
            counted = f"has {len(cells)} columns where the first line has {wanted}: quote cells that hold a comma or a line break"
            problems.append(RowProblem(line=row.line, reason=row.problem or counted))
            return None, problems
        said, of_list = columns.read(cells)

        def bad(field: str, value: Any, reason: str) -> None:
            column = columns.heading_of(field) or columns.heading_of(f"{OWN}{field}") or field
            problems.append(RowProblem(line=row.line, column=column, value_hint=str(value)[:40], reason=reason))

        email = None
        written = str(said.get("email", ""))
        if not written:
            bad("email", "", _no_address(said))
        else:
            try:
                email = normalise_email(written)
            except BadInput as error:
                bad("email", written, str(error))
        user_id = str(said["user_id"]) if "user_id" in said else None
        if user_id is not None and len(user_id) > LONGEST_ID:
            bad("user_id", user_id, f"is longer than {LONGEST_ID} characters")
        reading = read_traits(said, stages=self._stages)
        for one in reading.unreadable:
            bad(one.key, one.value, one.reason)
        consent = self._consent_of(of_list, bad)
        if problems:
            return None, problems
        return ReadRow(Who(email=email, user_id=user_id, moves=True), reading, of_list, consent), []

    def _consent_of(self, of_list: Mapping[str, Any], bad: Callable[[str, Any, str], None]) -> ConsentSaid | None:
        """What this row agreed to. Where a column tells, an empty cell or a no is no consent, whatever was said of the list."""
        all_of_them = self._consent
        how = all_of_them.how
        if self._columns.heading_of("consent") is not None:
            cell = of_list.get("consent", "")
            word = unicodedata.normalize("NFKC", str(cell)).strip().casefold()
            if cell is False or word == "" or word in _NO:
                return None
            how = how or "import" if cell is True or word in _YES else str(cell)
        if how is None:
            return None
        given_at = all_of_them.given_at
        if "consent_date" in of_list:
            try:
                given_at = read_date(of_list["consent_date"], self._zone)
            except BadInput as error:
                bad("consent_date", of_list["consent_date"], str(error))
        if given_at is not None and given_at > self._now:
            bad("consent_date", of_list.get("consent_date", given_at.date()), "is in the future")
        return ConsentSaid(how=how, wording=str(of_list.get("consent_wording", all_of_them.wording)), given_at=given_at)


def read_date(written: Any, zone: ZoneInfo) -> datetime:
    """A day or moment as lists write it: `2026-04-01`, `2026/4/1 10:30`, `2026年4月1日`. Raises `BadInput`.

    >>> read_date("2026年4月1日", ZoneInfo("Asia/Tokyo")).isoformat()
    '2026-03-31T15:00:00+00:00'
    """
    plain = unicodedata.normalize("NFKC", str(written)).strip()
    for form in ("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y年%m月%d日", "%Y%m%d", "%Y/%m/%d %H:%M", "%Y/%m/%d %H:%M:%S"):
        try:
            return datetime.strptime(plain, form).replace(tzinfo=zone).astimezone(UTC)
        except (ValueError, OverflowError):
            continue
    try:
        found = datetime.fromisoformat(plain)
        return (found.replace(tzinfo=zone) if found.tzinfo is None else found).astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadInput("should be a date, such as 2026-04-01") from None


def _no_address(said: Mapping[str, Any]) -> str:
    name = said.get("name") or said.get("last_name")
    if name and said.get("company"):
        return "is empty: a card without an address gives nobody to write to; add one and import again"
    return "is empty: every lead needs an address"
