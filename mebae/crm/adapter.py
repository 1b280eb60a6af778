"""The interface of all CRM adapters, and the one vocabulary in which they answer.

An adapter is handed finished values and knows no lead, no database and no rule: it speaks one API. What the other side says becomes
`Done`, `Refused` (never again as it is) or `Later` (asked again with the same key), with a code of `CODES`; what it really said is kept
as `raw`, which goes to the ledger row and nowhere else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from mebae.errors import Permanent, Temporary

Plain = str | int | float | bool | None

CODES: Mapping[str, str] = {
    "crm-away": "it did not answer, or said 5xx",
    "crm-busy": "it asked to be left alone for a while (429): tried again when it says",
    "crm-locked": "somebody else was writing this record: tried again",
    "crm-credentials": "it did not take the credentials, or they may not do this (401, 403): tried again every quarter of an hour",
    "crm-unset": "a variable of the environment that `crm.py` names is not set: tried again every quarter of an hour",
    "crm-answer": "its answer could not be read, or was too long: tried again",
    "crm-no-lead": "the lead itself has not been taken there, so nothing can be said of it",
    "crm-invalid": "it refused a value or a field: look at the raw answer, put `crm.py` or the field right, then `mebae crm retry`",
    "crm-not-there": "what was named does not exist there: an app, an object, a record (404)",
    "crm-converted": "Salesforce has converted the lead, which closes it for changes",
    "crm-address": "its address is not allowed: another host than `crm.py` says, no https, or a private network",
}  # fmt: skip
"""Why something was not taken."""


@dataclass(frozen=True)
class Done:
    """It was taken. `id`: what the other system calls it; `created`: whether it was not there before."""

    id: str | None = None
    created: bool = False
    raw: str = ""


@dataclass(frozen=True)
class Refused:
    """It will never be taken as it is."""

    code: str
    raw: str = ""


@dataclass(frozen=True)
class Later:
    """Not now. `after`: when the other side wants to be asked again, if it said so."""

    code: str
    raw: str = ""
    after: timedelta | None = None


Answer = Done | Refused | Later


class CrmAway(Temporary):
    """`Later`, raised: by the channel for the teller, and by an adapter that was asked to read."""

    code = "crm-away"

    def __init__(self, code: str | None = None, *, raw: str | None = None, retry_after: timedelta | None = None) -> None:
        super().__init__(code)
        self.raw, self.retry_after = raw, retry_after


class CrmRefused(Permanent):
    """`Refused`, raised."""

    code = "crm-invalid"

    def __init__(self, code: str | None = None, *, raw: str | None = None) -> None:
        super().__init__(code)
        self.raw = raw


@dataclass(frozen=True)
class Record:
    """A lead as it is to stand in the other system."""

    key: str
    """The idempotency key: of this telling, at every attempt."""
    lead: int
    email: str
    values: Mapping[str, Plain]
    """Their field → value. None empties it."""
    their_id: str | None = None
    now: datetime | None = None


@dataclass(frozen=True)
class Activity:
    """Something that happened, for the lead's timeline."""

    key: str
    lead: int
    email: str
    their_id: str | None
    """What the other system calls the lead."""
    what: str
    """`opened`, or the move of the hand-over."""
    title: str
    body: str
    at: datetime
    owner: str | None = None
    """What the other system calls the sales person."""
    details: Mapping[str, Plain] = field(default_factory=dict)
    """For programs: the hand-over's number, reason, amount."""


@dataclass(frozen=True)
class Task(Activity):
    """Something that the owner is to do."""

    due: datetime | None = None


@dataclass(frozen=True)
class Theirs:
    """A record of the other system, as far as its outcome goes."""

    id: str
    values: Mapping[str, str]
    """Their field → value, as text; an empty one is ""."""
    at: datetime
    """When it was last changed there."""


@dataclass(frozen=True)
class Finding:
    """What a check found: of credentials, or of a field."""

    ok: bool
    what: str
    cure: str = ""


class Adapter(Protocol):
    """A way into one system. Nothing is created by `check`, `read` and `pull_changes`."""

    most: int
    """Records that one request may carry."""

    async def upsert_leads(self, records: Sequence[Record]) -> Sequence[Answer]:
        """Makes or updates these leads, at most `most`; an answer each, in their order. The same again changes nothing."""
        ...

    async def push_activity(self, activity: Activity) -> Answer:
        """Notes something on the lead's timeline, once per key where the system can tell."""
        ...

    async def create_task(self, task: Task) -> Answer:
        """Makes a task, once per key where the system can tell."""
        ...

    def pull_changes(self, since: datetime) -> AsyncIterator[Sequence[Theirs]]:
        """Records that changed from then on, the oldest first, by the page. Raises `CrmAway` or `CrmRefused`."""
        ...

    async def read(self, ids: Sequence[str]) -> Sequence[Theirs]:
        """These records, at most `most`; those that are not there are left out. Raises likewise."""
        ...

    async def check(self) -> Sequence[Finding]:
        """Whether credentials and fields are right."""
        ...

    async def aclose(self) -> None: ...


def as_text(value: object) -> str:
    """A value of theirs, as outcomes are compared.

    >>> as_text(None), as_text(True), as_text(1200000.0), as_text(" 失注 ")
    ('', 'true', '1200000', '失注')
    """
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case float() if value.is_integer():
            return str(int(value))
        case dict() | list():
            return ""
        case _:
            return str(value).strip()
