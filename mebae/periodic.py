"""What is done again and again: the jobs, each with its name, its times and its work. To add one is a line in `jobs`.

A job's work is a generator: each step is done for good when it yields, and says where it is. A Temporal Schedule runs it
(`mebae.schedules`), a command can (`mebae sweep`), and a job that is killed goes on at its last mark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol

from pydantic import BaseModel
from sqlmodel import Session

from mebae.settings import Settings
from mebae.store.database import Database


class Mark(BaseModel):
    """Where a job is. It is kept in Temporal: ids and numbers only."""

    counts: dict[str, int] = {}
    """What has been done, in words for ops."""
    place: dict[str, Any] = {}
    """Where to go on; empty: at the start."""


class Work(Protocol):
    """Does a job in steps. `now` is asked anew for each, as a long job's time passes."""

    def __call__(
        self, database: Database, now: Callable[[], datetime], mark: Mark | None = None, /
    ) -> Iterator[Mark]: ...


@dataclass(frozen=True)
class Daily:
    """Once a day, at a local time."""

    at: str
    zone: str

    def __str__(self) -> str:
        return f"daily at {self.at}, {self.zone}"


@dataclass(frozen=True)
class Every:
    """Again when so much time has passed."""

    span: timedelta

    def __str__(self) -> str:
        return f"every {int(self.span.total_seconds() // 60)} minutes"


@dataclass(frozen=True)
class Job:
    name: str
    title: str
    when: Daily | Every
    work: Work


def jobs(settings: Settings, more: Iterable[Job] = ()) -> dict[str, Job]:
    """Every job, by name. `more`: those that the files of `scenarios/` ask for."""
    from mebae.digest import digest_job
    from mebae.store import consents
    from mebae.store.gate_answers import pruning
    from mebae.store.mail_actions import forget_clients
    from mebae.store.mail_reports import forget_unproven
    from mebae.store.scoring import refresh
    from mebae.store.visitors import purge
    from mebae.sweeping import sweep_segments

    morning = Daily(settings.sweep_at, settings.time_zone)
    all_of_them = (
        Job("segments", "who has joined or left a segment", morning, sweep_segments),
        Job("scores", "scores that time has changed", Every(timedelta(minutes=10)), repeated(refresh, "scored")),
        Job("clients", "which visitor opened or clicked, once it is judged", morning, repeated(forget_clients, "forgotten")),
        Job(
            "consents", "old records of consent that nobody needs any more", morning,
            repeated(partial(consents.purge, years=settings.consent_years), "removed"),
        ),
        Job("gate", "what the gate said long ago of mails that are over", morning, pruning(settings.gate_days)),
        Job("digest", "the weekly mail to sales, when it is due", Every(timedelta(minutes=10)), digest_job(settings.time_zone)),
        Job("reports", "what came back without proof, a month ago", morning, repeated(forget_unproven, "forgotten")),
        Job("visitors", "old visitors who never said who they are", morning, repeated(purge, "forgotten")),
    )
    return {job.name: job for job in (*all_of_them, *more)}


def repeated(step: Callable[[Session, datetime, int], int], word: str, *, most: int = 500) -> Work:
    """Work that is one function in one transaction, called until it answers 0. `word`: what it counts."""

    def work(database: Database, now: Callable[[], datetime], mark: Mark | None = None, /) -> Iterator[Mark]:
        at = mark or Mark(counts={word: 0})
        while done := database.write_now(step, now(), most):
            at.counts[word] += done
            yield at

    return work
