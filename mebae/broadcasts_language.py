"""The language of broadcasts: `from mebae.broadcasts_language import *` is all that a `broadcast.py` needs.

A broadcast is one mail to all leads of whom a condition is true, at one time or again and again: a newsletter, an
invitation, an announcement. It is data, like a scenario; its mails stand beside it. Conditions are written as in segments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal

from mebae.authoring import (
    _condition,
    _show,
    _span,
    _text,
    all_of,
    answered,
    any_of,
    attended,
    auto_replied,
    bounced,
    business_days,
    called,
    clicked,
    complained,
    contacted,
    created,
    days,
    did,
    did_not,
    downloaded,
    handed_over,
    handover_accepted,
    handover_expired,
    handover_rejected,
    handover_returned,
    hours,
    imported,
    lead,
    minutes,
    not_,
    opened,
    opportunity_lost,
    opportunity_opened,
    opportunity_won,
    qualified,
    registered,
    requested_quote,
    resubscribed,
    sales_qualified,
    stage_reached,
    submitted,
    tracked,
    unsubscribed,
    unsubscribed_topic,
    viewed_screen,
    visited,
    weeks,
)
from mebae.conditions import Condition
from mebae.errors import AuthoringError, BadInput, did_you_mean
from mebae.recurring import WEEKDAYS, EveryMonth, EveryWeek, Once, Recurrence
from mebae.timing import Duration, parse_time

__all__ = [
    "Broadcast",
    "ab_test",
    "all_of",
    "answered",
    "any_of",
    "attended",
    "auto_replied",
    "bounced",
    "business_days",
    "called",
    "clicked",
    "complained",
    "contacted",
    "created",
    "days",
    "did",
    "did_not",
    "downloaded",
    "every_month",
    "every_week",
    "handed_over",
    "handover_accepted",
    "handover_expired",
    "handover_rejected",
    "handover_returned",
    "hours",
    "imported",
    "lead",
    "minutes",
    "not_",
    "on",
    "opened",
    "opportunity_lost",
    "opportunity_opened",
    "opportunity_won",
    "qualified",
    "registered",
    "requested_quote",
    "resubscribed",
    "sales_qualified",
    "segment",
    "stage_reached",
    "subject",
    "submitted",
    "tracked",
    "unsubscribed",
    "unsubscribed_topic",
    "viewed_screen",
    "visited",
    "weeks",
]

WINNERS = ("clicks", "opens")


@dataclass(frozen=True)
class NamedSegment:
    """`segment("target-industries")`."""

    id: str


@dataclass(frozen=True)
class Subject:
    """Another subject for the broadcast's mail, by language; `""` stands for every language."""

    texts: Mapping[str, str]


@dataclass(frozen=True)
class AbTest:
    """`ab_test(…)`."""

    others: tuple[str | Subject, ...]
    """What is tried against the broadcast's own mail."""
    share: int
    winner_by: str
    after: Duration


@dataclass(frozen=True, init=False)
class Broadcast:
    """One mail to a segment.

    - `id`: lower-case words joined by hyphens; the folder has the same name with underscores.
    - `to`: `segment("target-industries")`, or a condition. Who leaves it before its turn gets no mail.
    - `mail`: the mail beside this file; its topic, its languages and its subject stand there.
    - `schedule`: `every_month(…)`, `every_week(…)` or `on(…)`. Without one it goes out by `mebae broadcasts send` alone.
    - `zone`: in which the schedule's time is meant; the workspace's if left out.
    - `local_time`: each lead gets it at that time in its own zone; `zone` is for those that have none.
    - `ab`: `ab_test(…)` tries several subjects or mails on a share of the leads; the others get the winner.
    - `holdout`: percent of the leads that get no mail, so that one can see what the mail does.
    - `give_up_after`: a mail that had to wait (quiet hours, a cap, the mail server) is not sent later than this after its time.

    >>> Broadcast("monthly-news", to=segment("target-industries"), mail="news", schedule=every_month(day=1, at="10:00")).mail
    'news'
    """

    id: str
    title: str
    to: NamedSegment | Condition
    mail: str
    schedule: Recurrence | None
    zone: str
    local_time: bool
    ab: AbTest | None
    holdout: int
    give_up_after: Duration

    def __init__(
        self,
        id: str,
        *,
        title: str = "",
        to: NamedSegment | Condition,
        mail: str,
        schedule: Recurrence | None = None,
        zone: str = "",
        local_time: bool = False,
        ab: AbTest | None = None,
        holdout: int = 0,
        give_up_after: Duration = Duration(days=3),  # noqa: B008 - frozen
    ) -> None:
        if isinstance(to, str):
            raise AuthoringError(f"to={to!r}: write to=segment({to!r}), or a condition such as to=lead.score >= 50")
        if schedule is not None and not isinstance(schedule, (EveryMonth, EveryWeek, Once)):
            raise AuthoringError(
                f'schedule={_show(schedule)}: write every_month(day=1, at="10:00"), every_week("tue", at="10:00") '
                f'or on("2026-12-01", at="10:00"); leave it out to send by hand'
            )
        if not isinstance(local_time, bool):
            raise AuthoringError(f"local_time={_show(local_time)}: write local_time=True, and the time in the schedule")
        if ab is not None and not isinstance(ab, AbTest):
            raise AuthoringError(f'ab={_show(ab)}: write ab=ab_test(subject("…"), share=20, after=hours(4))')
        found = {
            "id": _text(id, 'Broadcast("monthly-news", …)'),
            "title": _text(title, 'title="…"'),
            "to": to if isinstance(to, NamedSegment) else _condition(to, "to="),
            "mail": _text(mail, 'mail="news"'),
            "schedule": schedule,
            "zone": _text(zone, 'zone="Asia/Tokyo"'),
            "local_time": local_time,
            "ab": ab,
            "holdout": _whole(holdout, "holdout=5, in percent"),
            "give_up_after": _span(give_up_after, "give_up_after=days(3)"),
        }
        for name, value in found.items():
            object.__setattr__(self, name, value)


def segment(id: str) -> NamedSegment:
    """The leads of a segment of `segments.py`, as they are when the broadcast goes out.

    >>> segment("target-industries").id
    'target-industries'
    """
    return NamedSegment(_text(id, 'segment("target-industries")'))


def every_month(*, day: int, at: str, every: int = 1, starting: str | None = None, on: object = None) -> EveryMonth:
    """On a day of every month (or, with `every=3`, of every third month, counted from the month of `starting`).

    The 29th, 30th and 31st mean the last day of a month that has none. `on=business_days` moves it to the next business day.

    >>> every_month(day=1, at="10:00", on=business_days).business
    True
    """
    return EveryMonth(
        day=_whole(day, "every_month(day=1, …)"),
        at=_clock(at),
        every=_whole(every, "every=3"),
        starting=None if starting is None else _date(starting, 'starting="2026-04-01"'),
        business=_business(on),
    )


def every_week(*weekdays: str, at: str, every: int = 1, starting: str | None = None, on: object = None) -> EveryWeek:
    """On one or more days of every week (or, with `every=2`, of every second week, counted from the week of `starting`).

    Weeks begin on Monday. `on=business_days` moves it to the next business day.

    >>> every_week("tue", at="10:00", every=2, starting="2026-04-07").days
    ('tue',)
    """
    if not weekdays:
        raise AuthoringError('every_week(): name the day: every_week("tue", at="10:00")')
    for one in weekdays:
        if one not in WEEKDAYS:
            word = str(one).lower()
            near = word[:3] if word[:3] in WEEKDAYS else ""
            cure = f", write '{near}'" if near else did_you_mean(word, WEEKDAYS)
            raise AuthoringError(f"{one!r} is no day of the week{cure}")
    found = tuple(one for one in WEEKDAYS if one in weekdays)
    return EveryWeek(
        days=found,
        at=_clock(at),
        every=_whole(every, "every=2"),
        starting=None if starting is None else _date(starting, 'starting="2026-04-07"'),
        business=_business(on),
    )


def on(day: str, *, at: str) -> Once:
    """Once, on this day.

    >>> on("2026-12-01", at="10:00").day
    datetime.date(2026, 12, 1)
    """
    return Once(day=_date(day, 'on("2026-12-01", at="10:00")'), at=_clock(at))


def subject(text: str | Mapping[str, str] | None = None, /, **languages: str) -> Subject:
    """Another subject for the broadcast's mail: one text, or one for each language of the mail.

    >>> subject(ja="4月のお知らせ", en="News of April").texts["en"]
    'News of April'
    """
    given: Mapping[str, str] = {"": text} if isinstance(text, str) else dict(text or {}) | languages
    if not given or (isinstance(text, str) and languages):
        raise AuthoringError('subject(): write one text, or one for each language: subject(ja="…", en="…")')
    return Subject({_text(code, 'subject(ja="…")'): _text(words, 'subject(ja="…")') for code, words in given.items()})


def ab_test(
    *others: str | Subject, share: int, winner_by: Literal["clicks", "opens"] = "clicks", after: Duration
) -> AbTest:
    """Tries the broadcast's mail (variant a) against other subjects or other mails (b, c, …) on `share` percent of the leads.

    `after` that, counted from when the test's mails are out, the others get the variant with the most clicks of persons for each
    mail delivered (`winner_by="opens"`: opens). At a tie, or with too few to tell, the one that stands first wins.

    >>> ab_test(subject("3分で読める4月のまとめ"), share=20, after=hours(4)).share
    20
    """
    if not others:
        raise AuthoringError('ab_test(): name what is tried: ab_test(subject("…"), …) or ab_test("news-short", …)')
    for one in others:
        if not isinstance(one, (str, Subject)):
            raise AuthoringError(f'ab_test({_show(one)}, …): write subject("…") or the name of a mail')
    if winner_by not in WINNERS:
        raise AuthoringError(f"winner_by={winner_by!r}{did_you_mean(str(winner_by), WINNERS)}")
    return AbTest(others, _whole(share, "share=20, in percent"), winner_by, _span(after, "after=hours(4)"))


def _whole(value: object, spelling: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise AuthoringError(f"{_show(value)} is no whole number: write {spelling}")
    return value


def _clock(value: object) -> str:
    written = _text(value, 'at="10:00"')
    try:
        return f"{parse_time(written):%H:%M}"
    except BadInput as error:
        raise AuthoringError(str(error)) from None


def _date(value: object, spelling: str) -> date:
    try:
        return date.fromisoformat(_text(value, spelling))
    except ValueError:
        raise AuthoringError(f"{value!r} is no date: write {spelling}") from None


def _business(value: object) -> bool:
    if value is not None and value is not business_days:
        raise AuthoringError(f"on={_show(value)}: write on=business_days, without a number; or leave it out")
    return value is business_days
