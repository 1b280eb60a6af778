"""What the gate decides about one marketing mail to one lead, from facts and rules alone: no session, no clock.

The rules are asked in the order of DESIGN §8; the first that says no answers. A mail that is postponed is told the first moment
at which all that depends on time lets it go, as far as one can see now; it is asked about again then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from mebae import mailing_hours
from mebae.journey import Exited, Postponed, Refused
from mebae.mailing import MailRules
from mebae.timing import Calendar, check_zone

Answer = Refused | Postponed | Exited | None
"""None: go."""
OnCap = Literal["postpone", "skip", "end"]

SUPPRESSED: dict[str, str] = {
    "unsubscribed": "opted-out",
    "hard-bounce": "bounced",
    "soft-bounces": "bounced",
    "complaint": "complained",
    "erased": "suppressed",
    "by-hand": "suppressed",
    "imported": "suppressed",
}
"""What an entry of the suppression list makes the gate say."""

SETTINGS_FOR = timedelta(hours=1)
"""When a mail that lacks settings for its footer asks again: they change when somebody starts the worker anew."""
PAUSE_AT_LEAST, PAUSE_AT_MOST = timedelta(minutes=15), timedelta(hours=4)
"""While all sending is paused a mail waits as long again as the pause has lasted, within these: each time costs history."""
SALES_AT_LEAST, SALES_AT_MOST = timedelta(hours=4), timedelta(days=1)
"""While a lead is with sales a mail waits as long again as it has been there, within these."""


@dataclass(frozen=True)
class GateFacts:
    """What bears on one mail to one lead, at one moment."""

    zone: str = "UTC"
    """The lead's, else the workspace's."""
    erased: bool = False
    has_address: bool = True
    bases: tuple[str, ...] = ()
    """On what grounds it may be written to: those of its consents that were not withdrawn."""
    withdrawn: bool = False
    """Whether there were grounds that were withdrawn."""
    opted_out: bool = False
    suppressed: str | None = None
    """Why its address is on the suppression list."""
    topic: str = ""
    """Of the mail."""
    wants_topic: bool = True
    """False if the lead chose to have no mail of this topic."""
    with_sales_since: datetime | None = None
    """Since when a hand-over is under way for which marketing mail waits."""
    counted: tuple[datetime, ...] = ()
    """When other mails that count in the caps went out, or took their place; in any order."""
    paused_at: datetime | None = None
    """Since when all sending of marketing mail is paused."""
    on_cap: OnCap = "postpone"
    """What the step wants where a frequency cap is reached."""
    key: str = ""
    """Of the delivery: what spreads it."""


@dataclass(frozen=True)
class GateRules:
    """What stays the same for all mails: the team's rules, the calendar, and what the settings lack."""

    mail: MailRules = field(default_factory=MailRules)
    calendar: Calendar = field(default_factory=Calendar)
    lacking: Sequence[str] = ()
    """Settings without which no mail has its legal footer (`mebae.mail.legal.lacking`)."""


Rule = Callable[[GateFacts, GateRules, datetime], Answer]


def decide(facts: GateFacts, rules: GateRules, now: datetime) -> Answer:
    """The gate's answer.

    >>> from datetime import UTC
    >>> decide(GateFacts(), GateRules(), datetime(2026, 4, 1, tzinfo=UTC))
    Refused(why='no-consent', then=None, kind='refused')
    >>> decide(GateFacts(bases=("business-card",)), GateRules(), datetime(2026, 4, 1, tzinfo=UTC)) is None
    True
    """
    for rule in TRANSACTIONAL if rules.mail.is_transactional(facts.topic) else MARKETING:
        answer = rule(facts, rules, now)
        if isinstance(answer, Postponed):
            return Postponed(_in_hours(facts, rules, max(answer.until, now)), answer.why)
        if answer is not None:
            return answer
    return None


# The rules, in their order --------------------------------------------------------------------------------------------


def exists(facts: GateFacts, rules: GateRules, now: datetime) -> Answer:
    if facts.erased:
        return Refused("erased")
    return None if facts.has_address else Refused("no-address")


def consent(facts: GateFacts, rules: GateRules, now: datetime) -> Answer:
    if not rules.mail.needs_consent or any(basis in rules.mail.bases for basis in facts.bases):
        return None
    if facts.bases:
        return Refused("basis-not-accepted")
    return Refused("consent-withdrawn") if facts.withdrawn else Refused("no-consent")


def suppression(facts: GateFacts, rules: GateRules, now: datetime) -> Answer:
    """The address is told before the person's wish: that does not change when the lead agrees again."""
    why = SUPPRESSED.get(facts.suppressed, "suppressed") if facts.suppressed is not None else None
    if why is not None:
        return Refused(why)
    return Refused("opted-out") if facts.opted_out else None


def address(facts: GateFacts, rules: GateRules, now: datetime) -> Answer:
    """Of the suppression list what holds for every mail: an unsubscribe does not."""
    return None if facts.suppressed == "unsubscribed" else suppression(replace(facts, opted_out=False), rules, now)


def topic(facts: GateFacts, rules: GateRules, now: datetime) -> Answer:
    return None if facts.wants_topic else Refused("topic-not-wanted")


def handover_open(facts: GateFacts, rules: GateRules, now: datetime) -> Answer:
    """While sales speaks with a lead, marketing is silent."""
    if facts.with_sales_since is None:
        return None
    return Postponed(now + min(max(now - facts.with_sales_since, SALES_AT_LEAST), SALES_AT_MOST), "handover-open")


def sending_paused(facts: GateFacts, rules: GateRules, now: datetime) -> Answer:
    if facts.paused_at is None:
        return None
    return Postponed(now + min(max(now - facts.paused_at, PAUSE_AT_LEAST), PAUSE_AT_MOST), "sending-paused")


def frequency_cap(facts: GateFacts, rules: GateRules, now: datetime) -> Answer:
    """A mail counts in a window of 7 days until it is exactly 7 days old."""
    free = now
    if rules.mail.is_capped(facts.topic):
        counted = sorted(facts.counted)
        for cap in rules.mail.caps:
            if len(counted) >= cap.count:
                free = max(free, counted[-cap.count] + cap.span)
    if free <= now:
        return None
    match facts.on_cap:
        case "postpone":
            return Postponed(free, "frequency-cap")
        case "skip":
            return Refused("frequency-cap")
        case "end":
            return Exited("frequency-cap")


def sending_hours(facts: GateFacts, rules: GateRules, now: datetime) -> Answer:
    until = _in_hours(facts, rules, now)
    if until <= now:
        return None
    local = now.astimezone(check_zone(facts.zone)).date()
    hours = rules.mail.hours_for(facts.topic)
    assert hours is not None
    closed = hours.business_days and not rules.calendar.is_business_day(local)
    return Postponed(until, "no-business-day") if closed else Postponed(until, "quiet-hours")


def footer(facts: GateFacts, rules: GateRules, now: datetime) -> Answer:
    return Postponed(now + SETTINGS_FOR, "footer-unset") if rules.lacking else None


MARKETING: tuple[Rule, ...] = (
    exists, consent, suppression, topic, handover_open, sending_paused, frequency_cap, sending_hours, footer,
)  # fmt: skip
"""A rule that only postpones stands after those that refuse for good: a mail that never goes need not wait."""
TRANSACTIONAL: tuple[Rule, ...] = (exists, address, footer)


def _in_hours(facts: GateFacts, rules: GateRules, moment: datetime) -> datetime:
    """The first moment from this one on within the sending hours; where that is their beginning, a little after it."""
    hours = rules.mail.hours_for(facts.topic)
    if hours is None:
        return moment
    first = mailing_hours.next_moment(hours, moment, facts.zone, rules.calendar)
    return first if first <= moment else mailing_hours.spread(hours, first, facts.zone, rules.calendar, facts.key)
