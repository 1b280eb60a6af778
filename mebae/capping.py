"""Paths of a scenario on which the frequency cap can hold a mail back: told when it is checked, and no reason to refuse it.

A path is looked at as fast as it can be walked: an event is there at once, a wait takes what it says. Mails of other
scenarios and of broadcasts count too and are not seen here.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta
from typing import NamedTuple

from mebae.graph import Choice, Graph, Step, Wait, WaitFor, targets
from mebae.mailing import Cap, MailRules
from mebae.timing import Duration

_SENDS = ("send", "send_next")


class Crowded(NamedTuple):
    """A mail that may come too soon after others."""

    step: str
    cap: Cap
    path: tuple[str, ...]
    """The steps that send, the last one being the mail that would have to wait."""
    within: timedelta
    """How little time may lie between the first and the last."""


def crowded(graph: Graph, rules: MailRules, topics: Mapping[str, Collection[str]]) -> list[Crowded]:
    """Of each step at which a cap can be exceeded the shortest such path; in the graph's order.

    `topics`: those of each mail, by its id; a mail that is not in it counts.
    """
    sends = [step.id for step in graph.steps if step.do in _SENDS and _counts(step, rules, topics)]
    found: dict[str, Crowded] = {}
    for cap in sorted(rules.caps, key=lambda cap: cap.span):
        for first in sends:
            for one in _walk(graph, set(sends), first, cap):
                if one.step not in found:
                    found[one.step] = one
    return [found[step.id] for step in graph.steps if step.id in found]


def _walk(graph: Graph, sends: set[str], first: str, cap: Cap) -> Iterator[Crowded]:
    """From one mail on, along every way, the quickest first, until the cap would be exceeded or its window is over."""
    waiting: list[tuple[timedelta, str, tuple[str, ...]]] = [(timedelta(), first, (first,))]
    best: set[tuple[str, int]] = set()
    while waiting:
        took, at, path = heapq.heappop(waiting)
        if (at, len(path)) in best:
            continue
        best.add((at, len(path)))
        if len(path) > cap.count:
            yield Crowded(at, cap, path, took)
            continue
        for to, span in _onwards(graph.step(at)):
            after = took + span
            if after < cap.span:
                heapq.heappush(waiting, (after, to, (*path, to) if to in sends else path))


def _onwards(step: Step) -> Iterator[tuple[str, timedelta]]:
    """Where a step leads, and how long that takes at least."""
    match step:
        case Wait():
            yield step.next, _length(step.span)
        case WaitFor():
            yield from ((arm.to, timedelta()) for arm in step.arms)
            yield step.otherwise, _length(step.within)
        case _:
            yield from ((to, timedelta()) for to in targets(step))


def _length(span: Duration) -> timedelta:
    """As authors mean it: a day is a day, at whatever time; business days are days at least."""
    return timedelta(days=span.days + span.business_days, hours=span.hours, minutes=span.minutes)


def _counts(step: Step, rules: MailRules, topics: Mapping[str, Collection[str]]) -> bool:
    mail = getattr(step, "mail", "")
    mails = {*mail.of.values(), mail.otherwise} if isinstance(mail, Choice) else {mail}
    return any(rules.is_capped(topic) for one in mails for topic in topics.get(one, ("",)))
