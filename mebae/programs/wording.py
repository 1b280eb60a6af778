"""A graph in a person's words: conditions, events, and why a journey came to a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mebae.conditions import (
    All,
    Among,
    Any_,
    AtLeast,
    Compare,
    Condition,
    Did,
    Known,
    Like,
    Match,
    Not,
    OlderThan,
    Pattern,
    Tagged,
    refs_of,
)
from mebae.events import BY_NAME, IDENTIFIED, REQUESTED
from mebae.graph import Branch, CallTask, Graph, HandToSales, Split, Step, WaitFor, targets
from mebae.timing import Duration

_SIGNS = {"eq": "is", "gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
_PAST = {
    "created": "became known", "imported": "was imported with", "viewed_screen": "viewed the screen", "submitted": "sent the form",
    "answered": "answered the form", "registered": "registered for", "requested_quote": "asked for a quote",
    "stage_reached": "reached the stage", "qualified": "was qualified as", "joined": "joined the segment",
    "unsubscribed": "unsubscribed", "unsubscribed_topic": "unsubscribed from the topic", "resubscribed": "agreed to mail again",
    "bounced": "had a mail come back:", "complained": "called spam the mail", "auto_replied": "answered automatically to",
    "contacted": "was contacted by sales", "handed_over": "was given to sales", "handover_accepted": "was taken by sales",
    "handover_rejected": "was rejected by sales", "handover_returned": "was given back by sales",
    "handover_expired": "came back unanswered from sales", "sales_qualified": "was judged an SQL by sales",
    "opportunity_opened": "became an opportunity", "opportunity_won": "became a customer", "opportunity_lost": "was lost by sales",
    "called": "was called by sales",
}  # fmt: skip
"""What happened, of a lead, where the verb alone reads badly."""
_LISTS = {"lead.tags": "tagged", "lead.topics": "interested in", "lead.excluded": "excluded as"}


def condition_words(condition: Condition) -> str:
    """
    >>> condition_words((Compare(op="ge", ref="lead.score", to=50)) & AtLeast(to="interest"))
    'score ≥ 50 and stage is interest or later'
    """
    match condition:
        case Compare():
            return f"{_name(condition.ref)} {_SIGNS[condition.op]} {condition.to}"
        case Among():
            return f"{_name(condition.ref)} is {' or '.join(str(one) for one in condition.to)}"
        case Like():
            return f"{_name(condition.ref)} is like {condition.to}"
        case AtLeast():
            return f"{_name(condition.ref)} is {condition.to} or later"
        case Known():
            return f"{_name(condition.ref)} is known"
        case Tagged():
            return f"{_LISTS[condition.ref]} {condition.to}"
        case OlderThan():
            return f"{_name(condition.ref)} is older than {span_words(condition.span)}"
        case Did():
            often = f" {condition.times} times" if condition.times > 1 else ""
            within = f" within {span_words(condition.within)}" if condition.within is not None else ""
            return event_words(condition.pattern) + often + within
        case All():
            return " and ".join(_inside(part) for part in condition.of)
        case Any_():
            return " or ".join(_inside(part) for part in condition.of)
        case Not(of=Compare(op="eq", ref=ref, to=to)):
            return f"{_name(ref)} is not {to}"
        case Not():
            return f"not ({condition_words(condition.of)})"


def _inside(part: Condition) -> str:
    """A part of several, so that nobody has to know whether "and" or "or" binds tighter."""
    return f"({condition_words(part)})" if isinstance(part, (All, Any_)) else condition_words(part)


def event_words(pattern: Pattern) -> str:
    """
    >>> event_words(Pattern(event="Page Viewed", where={"path": "/pricing"}))
    'visited /pricing'
    """
    spec = BY_NAME.get(pattern.event)
    verb = spec.verb.replace("_", " ") if spec is not None else pattern.event
    return " ".join([verb, *(_match(value) for value in pattern.where.values())])


def happened_words(name: str, properties: Mapping[str, Any]) -> str:
    """One event that happened, in a line.

    >>> happened_words("Content Downloaded", {"content": "whitepaper-7", "pages": 12})
    'downloaded whitepaper-7'
    >>> happened_words("Trial Started", {"plan": "pro", "seats": 5})
    'did Trial Started (plan pro, seats 5)'
    """
    if name == IDENTIFIED:
        changed = properties.get("changed")
        return f"changed: {', '.join(map(str, changed))}" if isinstance(changed, list) and changed else "said who it is"
    if name == REQUESTED:
        return f"was asked into {properties.get('scenario', 'a scenario')}"
    spec = BY_NAME.get(name)
    if spec is None:
        plain = [f"{key} {value}" for key, value in properties.items() if isinstance(value, (str, int, float))]
        return _short(f"did {name}" + (f" ({', '.join(plain[:3])})" if plain else ""))
    value = properties.get(spec.property) if spec.property else None
    words = _PAST.get(spec.verb, spec.verb.replace("_", " ")) + (f" {value}" if value not in (None, "") else "")
    if spec.names == "mail" and properties.get("verdict", "human") != "human":
        words += f" (by a machine: {properties['verdict']})"
    return _short(words)


def _short(words: str, most: int = 120) -> str:
    words = " ".join("".join(letter if letter.isprintable() else " " for letter in words).split())
    return words if len(words) <= most else words[: most - 1] + "…"


def span_words(span: Duration) -> str:
    """
    >>> span_words(Duration(business_days=3))
    '3 business days'
    """
    parts = [
        f"{count} {unit if count > 1 else unit[:-1]}"
        for unit, count in (
            ("business days", span.business_days),
            ("days", span.days),
            ("hours", span.hours),
            ("minutes", span.minutes),
        )
        if count
    ]
    return " and ".join(parts)


def why(graph: Graph, step: str) -> str:
    """Why a journey comes to a step: the branch, the event or the silence that leads there; else how it entered."""
    came = [(before, at) for before in graph.steps for at, to in enumerate(targets(before)) if to == step]
    if not came or step == graph.start:
        return " or ".join(event_words(pattern) for pattern in graph.enters_on) or "was asked for"
    reasons = {_reason(graph, before, at) for before, at in came}
    return " or ".join(sorted(reasons))


def looked_at(graph: Graph, step: str) -> tuple[str, ...]:
    """What of the lead decided that a journey comes to a step (`lead.score`), if a branch did."""
    for before in graph.steps:
        if isinstance(before, Branch):
            for case in before.cases:
                if case.to == step:
                    return tuple(ref for ref in refs_of(case.when) if ref.startswith("lead."))
            if before.otherwise == step:
                found = dict.fromkeys(ref for case in before.cases for ref in refs_of(case.when))
                return tuple(ref for ref in found if ref.startswith("lead."))
    return ()


def _reason(graph: Graph, before: Step, at: int) -> str:
    match before:
        case Branch():
            if at < len(before.cases):
                return condition_words(before.cases[at].when)
            return _none_of([condition_words(case.when) for case in before.cases])
        case WaitFor():
            if at < len(before.arms):
                arm = before.arms[at]
                return event_words(arm.on) if arm.on is not None else condition_words(arm.when)  # type: ignore[arg-type]
            arms = [event_words(arm.on) if arm.on is not None else condition_words(arm.when) for arm in before.arms]  # type: ignore[arg-type]
            return f"{_none_of(arms)} within {span_words(before.within)}"
        case HandToSales() | CallTask():
            asked = "sales" if before.do == "hand_to_sales" else "the call"
            return f"{asked}: {before.paths[at].outcome}" if at < len(before.paths) else f"{asked}: done"
        case Split():
            return f"is in share {before.shares[at].name}"
        case _:
            return why(graph, before.id)


def _none_of(words: list[str]) -> str:
    return f"not {words[0]}" if len(words) == 1 else "neither " + " nor ".join(words)


def _name(ref: str) -> str:
    return ref.removeprefix("lead.").replace("_", " ")


def _match(value: Match) -> str:
    return " or ".join(str(one) for one in value) if isinstance(value, tuple) else str(value)
