"""The language of hand-over: `from mebae.sales_language import *` is all that `scenarios/sales.py` needs (DESIGN §9).

The rules are data, like a scenario: who sells, whose a lead is, by when sales answers, and what each reason means.
A webhook is named by the variable of the environment that holds its address; an address in the file is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, get_args

from mebae.authoring import (
    _condition,
    _one_of,
    _show,
    _span,
    _text,
    _time,
    all_of,
    any_of,
    business_days,
    days,
    did,
    did_not,
    hours,
    lead,
    minutes,
    not_,
    visited,
    weeks,
)
from mebae.business_time import Hours
from mebae.conditions import Condition
from mebae.errors import AuthoringError
from mebae.sales import REASONS, Clock, Digest, MailWaits, Person, Reason, Role, Territory, Weekday
from mebae.timing import Duration

__all__ = [
    "Sales",
    "all_of",
    "any_of",
    "between",
    "business_days",
    "days",
    "deadline",
    "did",
    "did_not",
    "digest",
    "hours",
    "lead",
    "minutes",
    "not_",
    "person",
    "reason",
    "territory",
    "visited",
    "weeks",
]

_A_DAY, _THREE_DAYS = Duration(business_days=1), Duration(business_days=3)
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")


@dataclass(frozen=True, eq=False)
class Sales:
    """The rules of hand-over, as written.

    - `people`: who sells. New leads come to inside sales, where there is some, in turn.
    - `territories`: whose leads are by what they are; the first that fits counts. One owner per company comes before it.
    - `hand_over_mqls`: whether a lead that becomes an MQL is given to sales by itself; `False` leaves it to `hand_to_sales`.
    - `response`, `judgement`: the two clocks, from the opening and from the acceptance.
    - `reasons`, `rest`: why a lead comes back, and how long it is then left alone.
    - `sql`: the SQL rule, shown with its parts to whoever judges.
    - `mail_waits`: how long marketing mail waits meanwhile: `"until-judged"` (default), `"until-closed"` or `"never"`.
    - `open`: the business hours, by which deadlines and calls count.
    - `call_within`: by when a call is to be made where its step does not say.
    - `slack`: the variable of the environment with the webhook of the team's channel. `webhook_hosts`: where webhooks may go;
      `webhooks_private=True`: those hosts may be in a private network, such as a chat server of your own.
    - `digest`: a mail once a week with the leads that are warm.

    >>> Sales(people=[person("sato", "佐藤", "sato@example.jp")]).people[0].role
    'inside'
    """

    people: Iterable[Person]
    territories: Iterable[Territory] = ()
    hand_over_mqls: bool = True
    response: Clock = field(default=Clock(within=Duration(business_days=1)))
    judgement: Clock = field(default=Clock(within=Duration(business_days=10), expire_after=Duration(business_days=10)))
    reasons: Iterable[Reason] = REASONS
    rest: Duration = field(default=Duration(days=30))
    sql: Condition | None = None
    mail_waits: MailWaits = "until-judged"
    open: Hours = field(default=Hours())
    call_within: Duration = field(default=Duration(business_days=1))
    slack: str | None = None
    webhook_hosts: Iterable[str] = ("hooks.slack.com",)
    webhooks_private: bool = False
    currency: str = "JPY"
    digest: Digest | None = None

    def __post_init__(self) -> None:
        for name, kind, spelling in (
            ("people", Person, 'person("sato", "佐藤", "sato@example.jp")'),
            ("territories", Territory, 'territory(lead.industry == "製造", "sato")'),
            ("reasons", Reason, 'reason("too-early", "時期尚早", rest=days(90))'),
            ("webhook_hosts", str, '"hooks.slack.com"'),
        ):
            object.__setattr__(self, name, _all(getattr(self, name), kind, name, spelling))
        for name in ("response", "judgement"):
            given: Any = getattr(self, name)
            if not isinstance(given, Clock):
                raise AuthoringError(f"{name}={_show(given)}: write {name}=deadline(business_days(1))")
        _span(self.rest, "rest=days(30)")
        _span(self.call_within, "call_within=business_days(1)")
        if self.sql is not None:
            _condition(self.sql, "sql=")
        _one_of(self.mail_waits, get_args(MailWaits), "mail_waits")
        _flag(self.hand_over_mqls, "hand_over_mqls")
        _flag(self.webhooks_private, "webhooks_private")
        hours_: Any = self.open
        if not isinstance(hours_, Hours):
            raise AuthoringError(f'open={_show(hours_)}: write open=between("09:00", "18:00")')
        _variable(self.slack, "slack")
        weekly: Any = self.digest
        if weekly is not None and not isinstance(weekly, Digest):
            raise AuthoringError(f'digest={_show(weekly)}: write digest=digest(every="fri", at="09:00", when=lead.score >= 50)')


def person(
    id: str, name: str = "", email: str = "", /, *, role: Role = "inside", slack: str | None = None, language: str | None = None,
    takes_leads: bool = True,
) -> Person:  # fmt: skip
    """Somebody who sells: an id that stays (no address), the name, the address for mail.

    `role`: `"inside"`, `"field"` or `"manager"` (told when nobody answers). `slack`: the variable of the environment with this
    person's webhook. `takes_leads=False`: on leave; leads of own companies still come.

    >>> person("hara", "原", "hara@example.jp", role="field", slack="SLACK_HARA").slack
    'SLACK_HARA'
    >>> person("hara", "原", "hara@example.jp", slack="https://hooks.slack.com/services/T0/B0/x")
    Traceback (most recent call last):
    mebae.errors.AuthoringError: slack=…: write the name of a variable of the environment, such as slack="SLACK_SALES"; not the address
    """
    spelling = 'person("sato", "佐藤", "sato@example.jp")'
    _one_of(role, get_args(Role), "role")
    return Person(
        id=_text(id, spelling), name=_text(name, spelling), email=_text(email, spelling), role=role, slack=_variable(slack, "slack"),
        language=language, takes_leads=_flag(takes_leads, "takes_leads"),
    )  # fmt: skip


def territory(when: Condition, /, *people: str) -> Territory:
    """Whose the leads are for which this is true: one person, or several in turn, by their ids.

    >>> territory(lead["prefecture"].in_("東京都", "神奈川県"), "hara", "mori").people
    ('hara', 'mori')
    """
    spelling = 'territory(lead.industry == "製造", "sato")'
    if not people:
        raise AuthoringError(f"territory(…): whose is it? Write {spelling}")
    return Territory(when=_condition(when, "territory(…)"), people=tuple(_text(one, spelling) for one in people))


def deadline(
    within: Duration, /, *, escalate_after: Duration | None = _A_DAY, expire_after: Duration | None = _THREE_DAYS
) -> Clock:
    """A clock in business time: a reminder when `within` is over; the managers are told so much later; the lead comes back after that.

    `None` for one of the two leaves it out.

    >>> deadline(hours(4), escalate_after=None).expire_after.business_days
    3
    """
    spans = {"escalate_after": escalate_after, "expire_after": expire_after}
    given = {name: None if span is None else _span(span, f"{name}=business_days(1)") for name, span in spans.items()}
    return Clock(within=_span(within, "deadline(business_days(1))"), **given)


def reason(
    code: str, title: str = "", /, *, rest: Duration | None = None, of: Iterable[str] = ("reject", "return", "lost"), en: str = ""
) -> Reason:
    """Why a lead comes back: a code that stays, what people read, and how long it is then left alone (else `rest` of `Sales`).

    `of`: with which of `"reject"`, `"return"` and `"lost"` it can be said.

    >>> reason("too-early", "時期尚早", rest=days(90)).rest.days
    90
    """
    spelling = 'reason("too-early", "時期尚早", rest=days(90))'
    moves: Any = tuple(of) if not isinstance(of, str) else (of,)
    for one in moves:
        _one_of(one, ("reject", "return", "lost"), "of")
    span = None if rest is None else _span(rest, "rest=days(90)")
    return Reason(code=_text(code, spelling), title=_text(title, spelling), title_en=_text(en, spelling), rest=span, of=moves)


def between(opens: str, closes: str) -> Hours:
    """Business hours, in the workspace's zone.

    >>> between("9:00", "17:30").opens
    '09:00'
    """
    spelling = 'open=between("09:00", "18:00")'
    try:
        return Hours(opens=_text(opens, spelling), closes=_text(closes, spelling))
    except ValueError as error:
        raise AuthoringError(f"between({opens!r}, {closes!r}): write {spelling}") from error


def digest(*, every: Weekday, at: str = "09:00", when: Condition, to: Iterable[str] = (), most: int = 30) -> Digest:
    """A mail to sales once a week, on this day at this time of the workspace: the leads for which `when` is true, those with the newest
    reasons first.

    `to`: who gets all of it, by ids; left out, each person gets the own leads and those of nobody, and managers get all.
    `most`: leads of one mail; the rest are counted.

    >>> digest(every="fri", at="9:00", when=lead.score >= 50).at
    '09:00'
    >>> digest(every="friday", when=lead.score >= 50)
    Traceback (most recent call last):
    mebae.errors.AuthoringError: every='friday' means nothing, did you mean 'fri'?; write every="mon" or every="tue" or ...
    """
    _one_of(every, get_args(Weekday), "every")
    people = (to,) if isinstance(to, str) else tuple(to)
    counted: Any = most
    if not isinstance(counted, int) or isinstance(counted, bool) or counted < 1:
        raise AuthoringError(f"most={_show(most)}: write how many leads one mail may hold, such as most=30")
    return Digest(
        every=every, at=_time(at) or "09:00", when=_condition(when, "when="), to=tuple(_text(one, 'to=["mori"]') for one in people),
        most=most,
    )  # fmt: skip


def _variable(given: object, name: str) -> str | None:
    if given is None:
        return None
    if not isinstance(given, str) or not _VARIABLE.fullmatch(given):
        raise AuthoringError(
            f'{name}=…: write the name of a variable of the environment, such as {name}="SLACK_SALES"; not the address'
        )
    return given


def _flag(given: object, name: str) -> bool:
    if not isinstance(given, bool):
        raise AuthoringError(f"{name}={_show(given)}: write {name}=True or {name}=False")
    return given


def _all(given: Any, kind: type, name: str, spelling: str) -> tuple[Any, ...]:
    if isinstance(given, (str, kind)) or not isinstance(given, Iterable):
        raise AuthoringError(f"{name}={_show(given)}: they stand in a list: {name}=[{spelling}]")
    found = tuple(given)
    for one in found:
        if not isinstance(one, kind):
            raise AuthoringError(f"{name}=[…, {_show(one)}]: write {name}=[{spelling}, …]")
    return found
