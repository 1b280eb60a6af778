"""The language of segments: `from mebae.segments_language import *` is all that `scenarios/segments.py` needs.

A segment is a saved condition on leads. Its name is used by `joined("dormant")` in scenarios, and by `mebae segments`.
Conditions are written as in scenarios; `entry` is not here, for outside a journey nothing has been entered.
"""

from __future__ import annotations

from dataclasses import dataclass

from mebae.authoring import (
    _condition,
    _text,
    all_of,
    answered,
    any_of,
    attended,
    auto_replied,
    bounced,
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

__all__ = [
    "Segment",
    "all_of",
    "answered",
    "any_of",
    "attended",
    "auto_replied",
    "bounced",
    "called",
    "clicked",
    "complained",
    "contacted",
    "created",
    "days",
    "did",
    "did_not",
    "downloaded",
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
    "opened",
    "opportunity_lost",
    "opportunity_opened",
    "opportunity_won",
    "qualified",
    "registered",
    "requested_quote",
    "resubscribed",
    "sales_qualified",
    "stage_reached",
    "submitted",
    "tracked",
    "unsubscribed",
    "unsubscribed_topic",
    "viewed_screen",
    "visited",
    "weeks",
]


@dataclass(frozen=True, init=False)
class Segment:
    """All leads of whom a condition is true: an id of lower-case words joined by hyphens, a title for people, the condition.

    >>> Segment("hot", title="50点以上", when=lead.score >= 50).id
    'hot'
    """

    id: str
    title: str
    when: Condition

    def __init__(self, id: str, *, title: str = "", when: Condition) -> None:
        spelling = 'Segment("dormant", title="休眠", when=…)'
        object.__setattr__(self, "id", _text(id, spelling))
        object.__setattr__(self, "title", _text(title, 'title="…"'))
        object.__setattr__(self, "when", _condition(when, "when="))
