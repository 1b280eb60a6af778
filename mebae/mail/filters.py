"""The filters of mails: what a marketer may do with a value."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from jinja2 import Undefined, UndefinedError, pass_context
from jinja2.runtime import Context

_NAMELESS = {"ja": "お客様"}
_WEEKDAYS = {"ja": "月火水木金土日", "en": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"}
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
)  # fmt: skip


def _language(context: Context) -> str:
    language = context.get("language")
    return language.split("-")[0].lower() if isinstance(language, str) and language else "ja"


def _absent(value: Any) -> bool:
    return value is None or isinstance(value, Undefined) or (isinstance(value, str) and not value.strip())


def default_to(value: Any, words: Any) -> Any:
    """`{{ lead.company | default_to("貴社") }}`: the words where the value is missing or blank."""
    return words if _absent(value) else value


@pass_context
def sama(context: Context, name: Any) -> str:
    """`{{ lead.name | sama }}`: 山田 太郎 様 in a Japanese mail, else the plain name; お客様 or "there" without one."""
    language = _language(context)
    if _absent(name):
        return _NAMELESS.get(language, "there")
    plain = " ".join(str(name).split())
    return plain if language != "ja" or plain.endswith(("様", "さま", "さん")) else f"{plain} 様"


@pass_context
def on_date(context: Context, value: Any, pattern: str | None = None) -> str:
    """`{{ entry.date | date }}`: 2026年4月1日（水） or Wednesday, 1 April 2026; or a pattern: `date("%Y/%m/%d")`.

    A time of day with a zone is shown on the lead's calendar: 09:00 in Tokyo is the day before in New York.
    """
    if _absent(value):
        str(value)  # a missing value names itself
        raise UndefinedError("a date is empty here")
    day: date
    try:
        if isinstance(value, str):
            text = value.strip().replace("Z", "+00:00")
            day = datetime.fromisoformat(text) if len(text) > 10 else date.fromisoformat(text)
        else:
            day = value
        if not isinstance(day, date):
            raise ValueError
    except ValueError:
        raise UndefinedError(
            "a value cannot be read as a date: dates look like 2026-04-01 or 2026-04-01T09:00:00+09:00"
        ) from None
    zone = context.get("time_zone")
    if isinstance(day, datetime) and day.tzinfo is not None and isinstance(zone, str) and zone:
        try:
            day = day.astimezone(ZoneInfo(zone))
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise UndefinedError(f"'{zone}' is no time zone") from None
    if pattern is not None:
        return day.strftime(pattern)
    if _language(context) == "ja":
        return f"{day.year}年{day.month}月{day.day}日（{_WEEKDAYS['ja'][day.weekday()]}）"
    return f"{_WEEKDAYS['en'].split()[day.weekday()]}, {day.day} {_MONTHS[day.month - 1]} {day.year}"


FILTERS = {"sama": sama, "date": on_date, "default_to": default_to}
"""By the name that a mail calls it."""
