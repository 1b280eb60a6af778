"""What is said of a lead, under whatever name it comes: Segment's traits and the headings of Japanese and English lists.

`read_traits` turns them into columns and attributes of a lead. An empty value says nothing and changes nothing; one that
cannot be read is reported and left out, and the rest goes in.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import unicodedata
import zoneinfo
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from mebae.errors import did_you_mean
from mebae.words import QUALIFICATIONS, STAGE_TITLES

HEADINGS: dict[str, tuple[str, ...]] = {
    "email": (
        "email", "email address", "e-mail", "mail", "mail address",
        "メール", "メールアドレス", "Eメール", "電子メール", "電子メールアドレス", "Eメールアドレス", "E-mailアドレス", "mailアドレス",
        "会社メール", "会社メールアドレス", "PCメール",
    ),
    "user_id": ("user id", "ユーザーID", "会員ID", "顧客ID", "会員番号", "顧客番号"),
    "name": ("name", "full name", "氏名", "名前", "お名前", "ご氏名", "御氏名", "姓名", "担当者名", "ご担当者名", "担当者"),
    "last_name": ("last name", "family name", "surname", "姓", "苗字", "名字"),
    "first_name": ("first name", "given name", "名"),
    "company": (
        "company", "company name", "organization", "organisation", "account",
        "会社", "会社名", "企業", "企業名", "法人名", "団体名", "貴社名", "御社名", "勤務先", "勤務先名",
    ),
    "title": ("title", "job title", "position", "役職", "役職名", "ご役職", "お役職", "肩書", "肩書き"),
    "industry": ("industry", "業種", "業種名", "ご業種", "業界"),
    "company_size": (
        "company size", "employees", "employee count", "number of employees",
        "従業員数", "社員数", "従業員数（名）", "従業員規模", "企業規模",
    ),
    "language": ("language", "locale", "lang", "言語"),
    "time_zone": ("time zone", "timezone", "tz", "タイムゾーン", "時間帯"),
    "score": ("score", "lead score", "スコア", "点数"),
    "stage": ("stage", "ステージ", "段階", "検討段階"),
    "qualification": ("qualification", "lead status", "リード区分", "認定"),
}  # fmt: skip
"""Each field and the names it comes under, without regard to case, width, spaces, hyphens and underscores."""

COLUMNS = (
    "name",
    "company",
    "title",
    "industry",
    "company_size",
    "language",
    "time_zone",
    "score",
    "stage",
    "qualification",
)
"""The fields that are columns of the leads table. Every other name is an attribute."""

LONGEST_KEY = 64
LARGEST_ATTRIBUTES = 32 * 1024
"""Bytes of JSON: what one lead's attributes may come to."""
LONGEST_TEXT = 500
"""Characters of a column. Longer text is cut: no name or title needs more, and no mail should carry it."""
DEEPEST = 32
LARGEST_NUMBER = 2**31 - 1

_FROM_JAPANESE = {
    "なし": "none", "未": "none", "商談": "opportunity", "受注": "won", "失注": "lost",
}  # fmt: skip
_LANGUAGES = {"jp": "ja", "jpn": "ja", "japanese": "ja", "日本語": "ja", "eng": "en", "english": "en", "英語": "en"}
_ZONES = {"jst": "Asia/Tokyo", "日本": "Asia/Tokyo", "日本時間": "Asia/Tokyo"}
_LANGUAGE = re.compile(r"([a-z]{2,3})(?:[-_.@][a-z0-9_.-]*)?")
_NUMBER = re.compile(r"([+-]?\d+)(?:\.0*)?(?:名|人|点|pt|employees|people)?(以上|以下|未満|\+)?")
_RANGE = re.compile(r"(\d+)(?:名|人)?(?:-|~|〜|–|—|から)(\d+)(?:名|人|employees)?")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class TooDeep(ValueError):
    """JSON that is nested deeper than anyone means."""

    def __init__(self) -> None:
        super().__init__(f"is nested deeper than {DEEPEST} levels")


class Unreadable(NamedTuple):
    """One trait that cannot be read."""

    key: str
    value: str
    """The beginning of it. Personal data: for the person who imports, never for a log."""
    reason: str


@dataclass
class Reading:
    """What traits came to."""

    columns: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    unreadable: list[Unreadable] = field(default_factory=list)


def field_of(heading: str) -> str | None:
    """The field that a heading or trait stands for; None for the user's own.

    >>> field_of("メール アドレス"), field_of("jobTitle"), field_of("company_size"), field_of("favouriteColour")
    ('email', 'title', 'company_size', None)
    """
    return _fields().get(heading_key(heading))


def clean(value: Any, depth: int = 0) -> Any:
    """The value as every database can keep it: no NUL, no lone surrogate, no NaN, no endless number. Raises `TooDeep`.

    >>> clean({"a\\x00": ["x\\ud800", float("nan"), 10**400]})
    {'a': ['x\ufffd', None, None]}
    """
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value if isinstance(value, bool) or -(2**63) <= value < 2**63 else _as_float(value)
    if value is None:
        return None
    if depth >= DEEPEST:
        raise TooDeep
    if isinstance(value, Mapping):
        return {clean_text(str(key)): clean(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(inner, depth + 1) for inner in value]
    return clean_text(str(value))


def clean_text(text: str) -> str:
    """Text without what PostgreSQL cannot keep (NUL) and UTF-8 cannot say (a lone surrogate)."""
    if (text.isascii() and "\x00" not in text) or _UNSTORABLE.search(text) is None:
        return text
    return _UNSTORABLE.sub(lambda found: "" if found[0] == "\x00" else "\ufffd", text)


def read_traits(traits: Mapping[str, Any], *, stages: Mapping[str, str] = STAGE_TITLES) -> Reading:
    """Sorts traits into columns and attributes. The address and the user id are left out: they say who, not what.

    `stages` are those of the scoring model, with their titles: a stage is known by either.
    """
    reading = Reading()
    for key, value in _flat(traits):
        name = clean_text(key).strip()
        try:
            value = clean(value)
        except TooDeep as error:
            reading.unreadable.append(Unreadable(name[:LONGEST_KEY], "", str(error)))
            continue
        if isinstance(value, str):
            value = value.strip()
        if value is None or value == "" or not name:
            continue
        field_name = field_of(name)
        if field_name in ("email", "user_id"):
            continue
        if field_name is None:
            if len(name) > LONGEST_KEY:
                shortened = name[:LONGEST_KEY]
                reading.unreadable.append(
                    Unreadable(shortened, "", f"the name is longer than {LONGEST_KEY} characters")
                )
            else:
                reading.attributes[name] = value
            continue
        target = reading.columns if field_name in COLUMNS else reading.attributes
        try:
            read = _stage(value, stages) if field_name == "stage" else _READERS[field_name](value)
        except ValueError as error:
            reading.unreadable.append(Unreadable(name, str(value)[:40], str(error)))
        else:
            target.setdefault(field_name, read)
    return reading


def full_name(first: str, last: str, language: str) -> str:
    """The name as it is written in the lead's language.

    >>> full_name("健司", "佐藤", "ja"), full_name("Kenji", "Sato", "en")
    ('佐藤 健司', 'Kenji Sato')
    """
    return " ".join(part for part in ((last, first) if language == "ja" else (first, last)) if part)


def fitting(attributes: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """As many of `more` as fit beside `attributes`, in their order."""
    left = LARGEST_ATTRIBUTES - _size({**attributes, **more})
    if left >= 0:
        return dict(more)
    fit: dict[str, Any] = {}
    for key, value in more.items():
        if _size({**attributes, **fit, key: value}) <= LARGEST_ATTRIBUTES:
            fit[key] = value
    return fit


def _size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode())


def _flat(traits: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Segment's `company` may be an object; what it says counts after what the traits say themselves."""
    pairs, company = [], []
    for key, value in traits.items():
        key = str(key)
        if isinstance(value, Mapping) and field_of(key) == "company":
            company += [("company" if inner == "name" else inner, said) for inner, said in value.items()
                        if inner == "name" or field_of(str(inner)) in ("industry", "company_size")]  # fmt: skip
        else:
            pairs.append((key, value))
    return pairs + company


def heading_key(heading: str) -> str:
    """A heading as it is compared: without case, width, spaces, hyphens, underscores and marks."""
    return re.sub(r"[\s_\-・.:*()]", "", unicodedata.normalize("NFKC", heading)).casefold()


@cache
def _fields() -> dict[str, str]:
    return {heading_key(name): key for key, names in HEADINGS.items() for name in (key, *names)}


def _as_float(value: int) -> float | None:
    try:
        return float(value)
    except OverflowError:
        return None


def _text(value: Any) -> str:
    if isinstance(value, (list, dict, bool)):
        raise ValueError("should be text")
    return str(value)[:LONGEST_TEXT]


def _whole(value: Any) -> int:
    if isinstance(value, str):
        plain = re.sub(r"[\s,約]", "", unicodedata.normalize("NFKC", value))
        found = _NUMBER.fullmatch(plain)
        if found is None or len(plain) > 20:
            raise ValueError("should be a whole number, such as 120")
        value = int(found[1])
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value):
        raise ValueError("should be a whole number, such as 120")
    if abs(value) > LARGEST_NUMBER:
        raise ValueError(f"should be {LARGEST_NUMBER} at most")
    return int(value)


def _size_of_company(value: Any) -> int:
    """A number, or the lower end of a range such as `51-200名`."""
    if isinstance(value, str):
        found = _RANGE.fullmatch(re.sub(r"[\s,]", "", unicodedata.normalize("NFKC", value)))
        value = found[1] if found is not None else value
    size = _whole(value)
    if size < 0:
        raise ValueError("should not be negative")
    return size


def _language(value: Any) -> str:
    written = unicodedata.normalize("NFKC", str(value)).strip().casefold()
    found = _LANGUAGE.fullmatch(written)
    language = _LANGUAGES.get(written) or (_LANGUAGES.get(found[1], found[1]) if found is not None else None)
    if language is None:
        raise ValueError("should be a language code, such as ja or en")
    return language


@cache
def _zones() -> dict[str, str]:
    return {name.casefold(): name for name in zoneinfo.available_timezones()} | _ZONES


def _time_zone(value: Any) -> str:
    written = str(value).strip()
    zone = _zones().get(written.casefold())
    if zone is None:
        near = difflib.get_close_matches(written[:60], sorted(_zones().values()), n=1, cutoff=0.7)
        raise ValueError(f"should be a time zone of the IANA list, such as {near[0] if near else 'Asia/Tokyo'}")
    return zone


def _one_of(what: str, known: tuple[str, ...]) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        written = unicodedata.normalize("NFKC", str(value)).strip()
        word = _FROM_JAPANESE.get(written, written.casefold())
        if word not in known:
            raise ValueError(f"is no {what}{did_you_mean(word[:40], known)}")
        return word

    return read


def _stage(value: Any, stages: Mapping[str, str]) -> str:
    """A stage of the user's by its id or title, in whatever case and width."""
    known = {heading_key(title): stage for stage, title in stages.items() if title}
    known |= {heading_key(stage): stage for stage in stages}
    found = known.get(heading_key(str(value)))
    if found is None:
        raise ValueError(f"is no stage{did_you_mean(str(value)[:40], stages)}")
    return found


_READERS: dict[str, Callable[[Any], Any]] = {
    "name": _text,
    "last_name": _text,
    "first_name": _text,
    "company": _text,
    "title": _text,
    "industry": _text,
    "company_size": _size_of_company,
    "language": _language,
    "time_zone": _time_zone,
    "score": _whole,
    "qualification": _one_of("qualification", QUALIFICATIONS),
}
