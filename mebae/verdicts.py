"""Who opened or clicked: a person, a scanner, or a proxy that fetches images for persons. Pure; judged from what is around.

Mail gateways look at every link before a mail is delivered, again when it is opened, and from any number of addresses; they
call themselves browsers. What gives them away is what no person does: they follow a link that nobody sees, ask by HEAD, do
many things at once, or click before anybody can have read a word. A machine's act is kept and never scored (DESIGN §7).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

Verdict = Literal["human", "scanner", "proxy"]

OPEN, CLICK, TRAP = "open", "click", "trap"

WHY = {
    "trap": "it followed the link that no person sees",
    "near-trap": "somebody followed that link of the same mail at the same time",
    "method": "it asked by HEAD or another method that no click uses",
    "agent": "a known scanner or program, by its own words",
    "no-agent": "it does not say what program it is",
    "network": "it came from a network of mail security",
    "prefetch": "a browser fetched it ahead of its user",
    "proxy": "a proxy fetches images for its users, whether they look or not",
    "too-soon": "it clicked before anybody can have read a word",
    "burst": "more happened to this mail within a second than a person can do",
    "tripped": "the same visitor gave itself away shortly before or after",
    "repeat": "the same person did the same once more within a second: it counts once",
}
"""The rules, as the codes that rows carry, with what they say."""

TRIPPING = frozenset({"trap", "method", "too-soon", "burst"})
"""Rules that make everything else of that visitor a machine's for a while. A program or network known as such is one anyway."""

_SAID: Mapping[str, tuple[Verdict, str]] = {
    "scanner": ("scanner", "agent"),
    "scanner-network": ("scanner", "network"),
    "proxy": ("proxy", "proxy"),
    "prefetch": ("scanner", "prefetch"),
    "none": ("scanner", "no-agent"),
}


EARLIEST = timedelta(hours=1)
"""A click so long before its mail went out was noted by a server whose clock is slow, or is on an earlier copy of the mail: its
time says nothing of who it was."""


@dataclass(frozen=True)
class Tuning:
    """What an installation may set, in the world's time."""

    too_soon: timedelta = timedelta(seconds=3)
    """A click earlier than this after delivery is no person's."""
    most: int = 2
    """So many acts on one mail within `within` a person can do."""
    within: timedelta = timedelta(seconds=1)
    ignored_for: timedelta = timedelta(minutes=15)
    """How long a visitor who gave itself away is ignored."""
    wait: timedelta = timedelta(seconds=10)
    """How old an act is when it is judged: what else its visitor does by then is known."""


@dataclass(frozen=True)
class Act:
    """One open, click or touch of the trap."""

    id: int
    delivery: int
    kind: str
    link: int | None
    method: str
    client: str
    said: str
    """See `mebae.machines.Said`."""
    at: datetime
    sent_at: datetime | None
    """When the mail went out."""

    @property
    def what(self) -> tuple[str, int | None]:
        return self.kind, self.link


class Judged(NamedTuple):
    """A verdict, and the rule that said so; none for a plain human one."""

    verdict: Verdict
    why: str | None = None


def judge(
    acts: Sequence[Act], *, tuning: Tuning, tripped: Mapping[str, Collection[datetime]] | None = None
) -> dict[int, Judged]:
    """The verdict on each act, by its id.

    Args:
        acts: those to judge, and all others around them: of the same mails within `tuning.within`, of the same visitors and
            on the same mails until `tuning.wait` later.
        tripped: when visitors gave themselves away, as far as it was found out before.
    """
    mails: defaultdict[int, list[Act]] = defaultdict(list)
    for act in sorted(acts, key=lambda act: (act.at, act.id)):
        mails[act.delivery].append(act)
    found: dict[int, Judged] = {}
    trips: defaultdict[str, list[datetime]] = defaultdict(list)
    for client, times in (tripped or {}).items():
        trips[client] += times
    for mail in mails.values():
        for act in mail:
            its = _by_itself(act, tuning) or _burst(act, mail, tuning)
            if its is None:
                continue
            found[act.id] = its
            if its.why in TRIPPING:
                trips[act.client].append(act.at)
    for mail in mails.values():
        for act in mail:
            if act.id not in found:
                found[act.id] = _by_others(act, mail, trips[act.client], tuning)
    return found


def _by_itself(act: Act, tuning: Tuning) -> Judged | None:
    if act.kind == TRAP:
        return Judged("scanner", "trap")
    if act.method != "GET":
        return Judged("scanner", "method")
    if act.said in _SAID:
        return Judged(*_SAID[act.said])
    if act.kind == CLICK and act.sent_at is not None and -EARLIEST < act.at - act.sent_at < tuning.too_soon:
        return Judged("scanner", "too-soon")
    return None


def _burst(act: Act, mail: Sequence[Act], tuning: Tuning) -> Judged | None:
    """Whether more than a person can do happened to this mail in some span that holds this act.

    A gateway that looks at a link when its user clicks it comes just before the user: what is a machine's by its own words
    and asks for this very link does not count against who else asks for it. Neither does a proxy that fetches the image.
    """
    near = [
        other.at
        for other in mail
        if abs(other.at - act.at) < tuning.within
        and other.said != "proxy"
        and (other is act or other.what != act.what or _by_itself(other, tuning) is None)
    ]
    most = tuning.most
    if any(near[at + most] - near[at] < tuning.within for at in range(len(near) - most)):
        return Judged("scanner", "burst")
    return None


def _by_others(act: Act, mail: Sequence[Act], trips: Collection[datetime], tuning: Tuning) -> Judged:
    if any(act.at - tuning.ignored_for <= trip <= act.at + tuning.wait for trip in trips):
        return Judged("scanner", "tripped")
    if any(other.kind == TRAP and abs(other.at - act.at) <= tuning.wait for other in mail):
        return Judged("scanner", "near-trap")
    same = (
        other
        for other in mail
        if other.client == act.client and other.what == act.what and (other.at, other.id) < (act.at, act.id)
    )
    if any(act.at - other.at < tuning.within for other in same):
        return Judged("human", "repeat")
    return Judged("human")
