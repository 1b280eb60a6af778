"""The filters of mails: what a marketer may do with a value.

A filter that greets has words for a lead without a name. One that shows a value refuses a missing one, as printing it would;
one that only cuts or picks hands it on, so that what follows can still say it: `{{ lead.name | family_name | sama }}`.
What is written in Japanese is so in a mail whose `language` is Japanese, else it is English.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from jinja2 import Undefined, UndefinedError, pass_context
from jinja2.runtime import Context

_WEEKDAYS = {"ja": "月火水木金土日", "en": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"}
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_ERAS = (
    (date(2019, 5, 1), "令和"), (date(1989, 1, 8), "平成"), (date(1926, 12, 25), "昭和"), (date(1912, 7, 30), "大正"),
    (date(1873, 1, 1), "明治"),
)  # fmt: skip
"""Each with its first day; Meiji from the day on which Japan took the Gregorian calendar."""
_MEIJI = 1867
_STYLES = ("short", "era")
_NEAR = {0: ("本日", "today"), 1: ("明日", "tomorrow"), 2: ("明後日", ""), -1: ("昨日", "yesterday"), -2: ("一昨日", "")}
_TITLED = ("様", "さま", "さん", "氏", "先生", "殿")


def default_to(value: Any, words: Any) -> Any:
    """`{{ lead.company | default_to("貴社") }}`: the words where the value is missing or blank."""
    return words if _absent(value) else value


# -- people and firms


@pass_context
def sama(context: Context, name: Any) -> str:
    """`{{ lead.name | sama }}`: 山田 太郎 様 in a Japanese mail, else the plain name; お客様 or "there" without one."""
    japanese = _is_japanese(context)
    if _absent(name):
        return "お客様" if japanese else "there"
    plain = _flat(name)
    return plain if not japanese or plain.endswith(("様", "さま", "さん")) else f"{plain} 様"


@pass_context
def san(context: Context, name: Any) -> str:
    """`{{ lead.name | family_name | san }}`: 山田さん in a Japanese mail, else the plain name; お客様 or "there" without one."""
    japanese = _is_japanese(context)
    if _absent(name):
        return "お客様" if japanese else "there"
    plain = _flat(name)
    return plain if not japanese or plain.endswith(_TITLED) else f"{plain}さん"


@pass_context
def onchu(context: Context, company: Any) -> str:
    """`{{ lead.company | onchu }}`: 株式会社青葉精機 御中, else the plain name; ご担当者様 or "your team" without one."""
    japanese = _is_japanese(context)
    if _absent(company):
        return "ご担当者様" if japanese else "your team"
    plain = _flat(company)
    return plain if not japanese or plain.endswith(("御中", "様")) else f"{plain} 御中"


def family_name(name: Any) -> Any:
    """`{{ lead.name | family_name | sama }}`: the family name where it can be told, else the whole name.

    >>> [family_name(name) for name in ("山田 太郎", "山田太郎", "Taro YAMADA", "Ann Lee", "Lee, Ann", "ジョン・スミス")]
    ['山田', '山田太郎', 'YAMADA', 'Lee', 'Lee', 'スミス']
    """
    return name if _absent(name) else _parted(name)[0]


def given_name(name: Any) -> Any:
    """`Hi {{ lead.name | given_name }},`: the given name where it can be told, else the whole name.

    >>> [given_name(name) for name in ("山田 太郎", "Ann Lee", "Lee, Ann", "Ludwig van Beethoven", "Ann")]
    ['太郎', 'Ann', 'Ann', 'Ludwig', 'Ann']
    """
    return name if _absent(name) else _parted(name)[1]


def _parted(name: Any) -> tuple[str, str]:
    """Family name and given name; both the whole name where they cannot be told apart."""
    whole = _flat(name)
    for title in _TITLED:
        whole = whole.removesuffix(title).rstrip() or whole
    family, comma, given = whole.partition(",")
    if comma and family.strip() and given.strip():
        return family.strip(), given.strip()
    words = whole.split()
    if any(unicodedata.east_asian_width(letter) in "WF" for letter in whole):
        if len(words) == 1 and "・" in whole:  # as foreign names are written: ジョン・スミス
            first, _, last = whole.rpartition("・")
            return (last, first) if first and last else (whole, whole)
        return (words[0], " ".join(words[1:])) if len(words) > 1 else (whole, whole)
    if len(words) < 2:
        return whole, whole
    loud = [word for word in words if word.isupper() and len(word.strip(".")) > 1]
    if loud and len(loud) < len(words):  # as passports and French cards have it: YAMADA Taro
        return " ".join(loud), " ".join(word for word in words if word not in loud)
    at = next((at for at, word in enumerate(words[1:], 1) if word[0].islower()), len(words) - 1)
    return " ".join(words[at:]), " ".join(words[:at])


# -- dates


@pass_context
def on_date(context: Context, value: Any, pattern: str | None = None) -> str:
    """`{{ entry.date | date }}`: 2026年4月1日（水） or Wednesday, 1 April 2026.

    `date("short")` leaves out the year, `date("era")` writes it as 令和8年, and `date("%Y/%m/%d")` is a pattern of your own. A
    time of day with a zone is shown on the lead's calendar: 09:00 in Tokyo is the day before in New York.
    """
    day = _moment(context, value)
    if pattern is not None and "%" in pattern:
        return day.strftime(pattern)
    if pattern is not None and pattern not in _STYLES:
        raise UndefinedError("date takes 'short', 'era', or a pattern such as '%Y/%m/%d'")
    return _written(day, pattern, japanese=_is_japanese(context))


@pass_context
def at_time(context: Context, value: Any) -> str:
    """`{{ entry.starts_at | time }}`: 14:00, by the clock on the lead's wall."""
    moment = _moment(context, value)
    if not isinstance(moment, datetime):
        raise UndefinedError("a date has no time of day: times look like 2026-04-01T09:00:00+09:00")
    return f"{moment:%H:%M}"


@pass_context
def date_time(context: Context, value: Any) -> str:
    """`{{ entry.starts_at | datetime }}`: 2026年4月1日（水）14:00, or Wednesday, 1 April 2026, 14:00."""
    between = "" if _is_japanese(context) else ", "
    return f"{on_date(context, value)}{between}{at_time(context, value)}"


@pass_context
def weekday(context: Context, value: Any) -> str:
    """`{{ entry.date | weekday }}`: 水曜日, or Wednesday."""
    day = _moment(context, value).weekday()
    return f"{_WEEKDAYS['ja'][day]}曜日" if _is_japanese(context) else _WEEKDAYS["en"].split()[day]


@pass_context
def days_until(context: Context, value: Any) -> int:
    """`{% if (entry.date | days_until) <= 3 %}`: how many midnights lie between today and then; negative for the past."""
    now = context.get("now")
    if not isinstance(now, datetime):
        raise UndefinedError("what today is is not known here")
    then, today = _moment(context, value), _moment(context, now)
    return (_calendar_day(then) - _calendar_day(today)).days


@pass_context
def relative(context: Context, value: Any) -> str:
    """`{{ entry.date | relative }}`: 本日, 明日, 明後日, 3日後, 2日前; today, tomorrow, in 3 days, 2 days ago."""
    days, japanese = days_until(context, value), _is_japanese(context)
    if words := _NEAR.get(days, ("", ""))[0 if japanese else 1]:
        return words
    if japanese:
        return f"{days}日後" if days > 0 else f"{-days}日前"
    return f"in {days} days" if days > 0 else f"{-days} days ago"


def _moment(context: Context, value: Any) -> date:
    """A date, or a time on the lead's calendar."""
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
            return day.astimezone(ZoneInfo(zone))
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise UndefinedError(f"'{zone}' is no time zone") from None
    return day


def _calendar_day(moment: date) -> date:
    return moment.date() if isinstance(moment, datetime) else moment


def _written(day: date, style: str | None, *, japanese: bool) -> str:
    if not japanese:
        year = "" if style == "short" else f" {day.year}"
        return f"{_WEEKDAYS['en'].split()[day.weekday()]}, {day.day} {_MONTHS[day.month - 1]}{year}"
    year = {"short": "", "era": _era(_calendar_day(day))}.get(style or "", f"{day.year}年")
    return f"{year}{day.month}月{day.day}日（{_WEEKDAYS['ja'][day.weekday()]}）"


def _era(day: date) -> str:
    first, era = next(((first, era) for first, era in _ERAS if day >= first), (None, ""))
    if first is None:
        return f"{day.year}年"
    count = day.year - (_MEIJI if era == "明治" else first.year - 1)
    return f"{era}{'元' if count == 1 else count}年"


# -- numbers, lists, lengths


def number(value: Any, decimals: int = 0) -> str:
    """`{{ entry.seats | number }}`: 1,234; `number(1)` for 1,234.5.

    >>> number("1234567"), number(1234.56, 1), number(-0.4)
    ('1,234,567', '1,234.6', '0')
    """
    shown = f"{round(_number(value), decimals):,.{decimals}f}"
    return shown.lstrip("-") if not shown.strip("-0.,") else shown


@pass_context
def yen(context: Context, value: Any) -> str:
    """`{{ entry.price | yen }}`: 1,234円, or ¥1,234."""
    amount = number(value)
    return f"{amount}円" if _is_japanese(context) else f"¥{amount}"


def shorten(text: Any, length: int = 40) -> Any:
    """`{{ entry.title | shorten(20) }}`: at most so many characters, the last one … where it was longer.

    >>> shorten("設備保全のための点検記録", 8), shorten("Maintenance records for plants", 20)
    ('設備保全のため…', 'Maintenance records…')
    """
    if _absent(text):
        return text
    plain = _flat(text)
    if len(plain) <= length:
        return plain
    cut = plain[: max(length - 1, 0)]
    inside = plain[len(cut)].isascii() and plain[len(cut)].isalnum() and cut[-1:].isascii() and cut[-1:].isalnum()
    if inside and " " in cut:
        cut = cut.rpartition(" ")[0]
    return f"{cut.rstrip(' 、。，．,.')}…"


@pass_context
def listed(context: Context, values: Any, most: int | None = None) -> Any:
    """`{{ lead.topics | listed }}`: 点検、保全 or "inspection and maintenance"; `listed(2)` names two and says that there are more."""
    if _absent(values):
        return values
    if isinstance(values, str) or not isinstance(values, Iterable):
        values = [values]
    words = [_flat(value) for value in values if not _absent(value)]
    shown, more = (words[:most], len(words) > most) if most is not None else (words, False)
    if _is_japanese(context):
        return "、".join(shown) + ("など" if more else "")
    if more:
        return f"{', '.join(shown)} and more"
    return f"{', '.join(shown[:-1])} and {shown[-1]}" if len(shown) > 1 else "".join(shown)


def _number(value: Any) -> Decimal:
    if _absent(value):
        str(value)  # a missing value names itself
        raise UndefinedError("a number is empty here")
    try:
        if isinstance(value, bool):
            raise InvalidOperation
        found = Decimal(unicodedata.normalize("NFKC", str(value)).replace(",", "").strip())
        if not found.is_finite() or abs(found) > 10**15:
            raise InvalidOperation
    except InvalidOperation:
        raise UndefinedError("a value cannot be read as a number") from None
    return found


def _is_japanese(context: Context) -> bool:
    language = context.get("language")
    return not isinstance(language, str) or not language or language.split("-")[0].lower() == "ja"


def _absent(value: Any) -> bool:
    return value is None or isinstance(value, Undefined) or (isinstance(value, str) and not value.strip())


def _flat(value: Any) -> str:
    if not isinstance(value, str | int | float | Decimal | date):
        raise UndefinedError("a group of values cannot be shown as text")
    return " ".join(str(value).split())


FILTERS: dict[str, Callable[..., Any]] = {
    "sama": sama, "san": san, "onchu": onchu, "family_name": family_name, "given_name": given_name, "date": on_date,
    "time": at_time, "datetime": date_time, "weekday": weekday, "days_until": days_until, "relative": relative,
    "number": number, "yen": yen, "shorten": shorten, "listed": listed, "default_to": default_to,
}  # fmt: skip
"""By the name that a mail calls it."""
