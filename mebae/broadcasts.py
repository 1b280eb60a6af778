"""A broadcast as data: what `broadcast.py` compiles to, with a content hash as a graph has one, and who is in which part of it. Pure.

A run carries the plan that it was started with: an edited file is the next run's.
"""

from __future__ import annotations

import hashlib
from typing import ClassVar, NamedTuple

from mebae.conditions import All, Condition, Data
from mebae.hashed import Hashed
from mebae.recurring import Recurrence
from mebae.timing import Duration

VARIANTS = "abcde"
"""What the variants of a test are called; more would need more leads than anybody has."""
EVERYBODY: Condition = All(of=())
TEN_THOUSAND = 10_000
"""Lots that leads draw: a percent is a hundred of them."""


class Variant(Data):
    """One of the mails that a test tries; `a` is the broadcast's own."""

    id: str
    mail: str
    """Its id, by which events and conditions know it."""
    subjects: dict[str, str] = {}
    """In place of the mail's own, by language."""

    @property
    def text(self) -> str:
        """The id under which its text is published: a subject of its own makes it a text of its own."""
        return f"{self.mail}:{self.id}" if self.subjects else self.mail


class Ab(Data):
    """An A/B test."""

    variants: tuple[Variant, ...]
    share: int
    """Percent of all leads, for all variants together."""
    winner_by: str = "clicks"
    after: Duration


class BroadcastPlan(Hashed):
    """All that a run needs to know."""

    newest_format: ClassVar[int] = 1
    called: ClassVar[str] = "broadcast"

    broadcast: str
    title: str = ""
    segment: str = ""
    """Whose condition `to` is; empty for one of the broadcast's own."""
    to: Condition
    mail: str
    schedule: Recurrence | None = None
    zone: str = ""
    """Of the schedule; empty: the workspace's."""
    local_time: bool = False
    ab: Ab | None = None
    holdout: int = 0
    """Percent of all leads."""
    give_up_after: Duration = Duration(days=3)
    only: tuple[int, ...] | None = None
    """Of a run by command: these leads alone, whoever is in the segment."""

    def variant(self, id: str | None) -> Variant:
        """The variant of this id; without a test the mail itself."""
        for one in self.ab.variants if self.ab is not None else ():
            if one.id == id:
                return one
        return Variant(id=VARIANTS[0], mail=self.mail)

    def mails(self) -> tuple[str, ...]:
        """Every mail that it can send, once each."""
        variants = self.ab.variants if self.ab is not None else ()
        return tuple(dict.fromkeys([self.mail, *(one.mail for one in variants)]))


class Drawn(NamedTuple):
    """What a lead is in for."""

    part: str
    """`holdout`, `test` or `main`."""
    variant: str | None = None
    """In the test."""


def lot(run: int, lead: int) -> int:
    """A number from 0 to 9,999, the same on every machine and at every try, and unlike for each run."""
    digest = hashlib.sha256(f"broadcast:{run}:{lead}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % TEN_THOUSAND


def draw(plan: BroadcastPlan, run: int, lead: int) -> Drawn:
    """Whether a lead is held out, tries a variant, or gets the mail (or the test's winner).

    >>> plan = BroadcastPlan(format=1, broadcast="news", to=EVERYBODY, mail="news", holdout=100)
    >>> draw(plan, 1, 42)
    Drawn(part='holdout', variant=None)
    """
    number = lot(run, lead) - plan.holdout * 100
    if number < 0:
        return Drawn("holdout")
    if plan.ab is not None and number < plan.ab.share * 100:
        variants = plan.ab.variants
        return Drawn("test", variants[number * len(variants) // (plan.ab.share * 100)].id)
    return Drawn("main")
