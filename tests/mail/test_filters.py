"""What a marketer writes with filters is what the reference says: each of its examples is filled in here."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mebae.mail.filters import FILTERS
from mebae.mail.rendering import BrokenMail, parse_mail, render
from tests.mail.test_rendering import LAYOUT, mail, values

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "mails.md"
NOW = datetime(2026, 3, 30, 3, 0, tzinfo=UTC)
ENTRY = {
    "title": "設備保全のための点検記録", "starts_at": "2026-04-01T14:00:00+09:00", "date": "2026-04-01", "price": 1234567,
    "seats": "1,200",
}  # fmt: skip


def said(template: str, language: str = "ja", *, entry: dict[str, Any] | None = None, **lead: Any) -> str:
    lead = {"name": "佐藤 健二", "company": "株式会社青葉精機", "topics": ["点検", "保全", "安全"], "time_zone": "Asia/Tokyo"} | lead
    filled = values(language, entry if entry is not None else ENTRY, **lead) | {"now": NOW}
    return render(parse_mail(mail(template), "m"), LAYOUT, filled).text.strip()


def examples() -> list[tuple[str, str, str]]:
    section = PAGE.read_text(encoding="utf-8").partition("## Filters")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\{.+?\})` \| (.+?) \| (.+?) \|$", section, re.MULTILINE)
    return [(template.replace("\\|", "|"), ja, en) for template, ja, en in rows]


@pytest.mark.parametrize(("template", "ja", "en"), examples())
def test_the_examples_of_the_reference_are_true(template: str, ja: str, en: str) -> None:
    assert said(template) == ja
    assert said(template, "en") == en


def test_every_filter_has_an_example() -> None:
    shown = " ".join(template for template, _, _ in examples())
    assert [name for name in FILTERS if not re.search(rf"\| {name}\b", shown)] == []


@pytest.mark.parametrize(
    ("template", "ja", "en"),
    [
        ("{{ lead.name | sama }}", "お客様", "there"),
        ("{{ lead.name | family_name | sama }}", "お客様", "there"),
        ("{{ lead.name | given_name | san }}", "お客様", "there"),
        ("{{ lead.company | onchu }}", "ご担当者様", "your team"),
        ("{{ lead.company | shorten(5) | default_to('貴社') }}", "貴社", "貴社"),
        ("{{ lead.topics | first | default_to('保全') }}", "保全", "保全"),
    ],
)
def test_a_lead_without_a_name_or_firm_is_greeted_all_the_same(template: str, ja: str, en: str) -> None:
    assert said(template, name=None, company=None, topics=[]) == ja
    assert said(template, "en", name=None, company="", topics=[]) == en


@pytest.mark.parametrize(
    ("day", "era"),
    [("2019-05-01", "令和元年5月1日（水）"), ("2019-04-30", "平成31年4月30日（火）"), ("1989-01-07", "昭和64年1月7日（土）"),
     ("1926-12-24", "大正15年12月24日（金）"), ("1912-07-29", "明治45年7月29日（月）"), ("1870-01-01", "1870年1月1日（土）")],
)  # fmt: skip
def test_eras_change_on_their_day(day: str, era: str) -> None:
    assert said("{{ entry.d | date('era') }}", entry={"d": day}) == era


@pytest.mark.parametrize(
    ("at", "ja", "en"),
    [("2026-03-30", "本日", "today"), ("2026-03-31", "明日", "tomorrow"), ("2026-04-01", "明後日", "in 2 days"),
     ("2026-04-09", "10日後", "in 10 days"), ("2026-03-29", "昨日", "yesterday"), ("2026-03-20", "10日前", "10 days ago"),
     ("2026-03-30T16:00:00Z", "明日", "tomorrow")],
)  # fmt: skip
def test_days_are_counted_on_the_calendar_of_the_lead(at: str, ja: str, en: str) -> None:
    assert said("{{ entry.d | relative }}", entry={"d": at}) == ja
    assert said("{{ entry.d | relative }}", "en", entry={"d": at}) == en


def test_the_clock_on_the_wall_of_the_lead() -> None:
    assert said("{{ entry.starts_at | datetime }}", "en", time_zone="America/New_York") == "Wednesday, 1 April 2026, 01:00"
    assert said("{{ entry.starts_at | weekday }}", time_zone="Pacific/Honolulu") == "火曜日"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ entry.date | time }}", "no time of day"),
        ("{{ entry.date | date('long') }}", "'short', 'era'"),
        ("{{ entry.title | number }}", "cannot be read as a number"),
        ("{{ entry.none | yen }}", "entry.none is empty"),
        ("{{ entry.none | relative }}", "entry.none is empty"),
        ("{{ entry | shorten }}", "group of values"),
        ("{{ lead.company | shorten(2) | upper | none }}", "there is no filter 'none'"),
    ],
)
def test_what_cannot_be_shown_says_why(template: str, words: str) -> None:
    with pytest.raises(BrokenMail) as broken:
        said(template)
    assert words in broken.value.detail


def test_without_a_now_no_day_is_near() -> None:
    with pytest.raises(BrokenMail) as broken:
        render(parse_mail(mail("{{ entry.date | relative }}"), "m"), LAYOUT, values(entry=ENTRY))
    assert "what today is" in broken.value.detail


def test_lists_and_lengths() -> None:
    assert said("{{ lead.topics | listed(3) }}") == "点検、保全、安全"
    assert said("{{ ['a', 'b', 'c'] | listed }} {{ 'x' | listed }}", "en") == "a, b and c x"
    assert said("{{ entry.title | shorten(100) }}") == ENTRY["title"]
    assert said("{{ -1234.5 | number(1) }} {{ '１２３４' | number }}") == "-1,234.5 1,234"
