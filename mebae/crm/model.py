"""What `scenarios/crm.py` says, as data: which systems, which of a lead's values go to which field, when, and what comes back.

Secrets are not among it: only the names of the variables of the environment that hold them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Literal, Self

from pydantic import ValidationError

from mebae.conditions import Condition, Data
from mebae.errors import NotFound
from mebae.hashed import written_json

Kind = Literal["webhook", "hubspot", "salesforce", "kintone"]
Occasion = Literal["stage", "qualification", "handover", "call"]
OCCASIONS: tuple[Occasion, ...] = ("stage", "qualification", "handover", "call")

VALUES: Mapping[str, str] = {
    "id": "the lead's number",
    "email": "its address",
    "user_id": "what your own systems call it",
    "name": "its name",
    "last_name": "its family name: the attribute `last_name`, else by the order in which its language writes names",
    "first_name": "its given name, likewise",
    "company": "its firm",
    "title": "its title",
    "rank": "what the title means, by `mapping.csv`",
    "industry": "its industry",
    "industry_group": "what the industry means, by `mapping.csv`",
    "company_size": "how many people the firm has",
    "language": "its language",
    "tags": "its tags, joined by semicolons",
    "topics": "what it is interested in, joined by semicolons",
    "first_source": "where it came from first",
    "first_campaign": "which campaign brought it first",
    "last_source": "where it came from last",
    "last_campaign": "which campaign brought it last",
    "score": "its score: fit and engagement together, rounded down",
    "fit": "points for what it is",
    "engagement": "points for what it did, as of now",
    "reasons": "which rules gave the points, a line each",
    "stage": "its stage",
    "qualification": "`none`, `mql`, `accepted`, `sql`, `opportunity`, `won` or `lost`",
    "behaviour": "what it did lately, a line each",
    "active_at": "when it last did something",
    "opted_out": "whether it wants no marketing mail",
    "owner": "the sales person whose lead it is, by name",
    "handover": "where its latest hand-over stands",
}
"""What a field can hold. `lead.NAME` is an attribute of your own."""

MOVES = ("accept", "reject", "return", "sql", "opportunity", "won", "lost")
"""What an outcome can mean."""


class Value(Data):
    """What goes into one of their fields."""

    of: str
    """A name of `VALUES`, or `lead.NAME`."""
    table: dict[str, str] = {}
    """Our value → theirs; one that is not in it is not sent. Empty: as it is."""
    otherwise: str | None = None
    """What is sent where the lead has nothing, for fields that must not be empty."""


class Sending(Data):
    """When leads go out, and which."""

    at_once: tuple[Occasion, ...] = OCCASIONS
    every_minutes: int | None = None
    """How often leads that changed meanwhile go too. None: never."""
    only: Condition | None = None
    """Which leads go at all; one that has gone before goes on being kept up to date. None: all with an address."""
    activities: bool = True
    """Whether what happens with a hand-over goes to the lead's timeline."""
    tasks: bool = True
    """Whether a hand-over and a call become a task."""


class Outcomes(Data):
    """What comes back, by table."""

    fields: tuple[tuple[str, dict[str, str]], ...] = ()
    """Their field, and what its values mean, as `MOVES`. The first that changed to a known one counts."""
    amount: str = ""
    """Their field with the amount of a deal that was won."""
    reason: str = ""
    """Their field that says why (失注理由)."""
    reasons: dict[str, str] = {}
    """Its values → the codes of the reasons of `sales.py`. Others are `other`, with their words as the note."""
    every_minutes: int | None = None
    """How often changes are fetched. None: only what their webhook says."""

    @property
    def names(self) -> tuple[str, ...]:
        """All fields of theirs that are read."""
        named = [*(field for field, _ in self.fields), self.amount, self.reason]
        return tuple(dict.fromkeys(name for name in named if name))


class System(Data):
    """One CRM or webhook."""

    name: str
    kind: Kind
    host: str = ""
    """Where it is; of a webhook the host that its address must have."""
    url: str = ""
    """Another address than `https://host`, for a gateway of your own."""
    private: bool = False
    """Whether it may be in a private network, or on this machine."""
    secrets: dict[str, str] = {}
    """What each is for → the variable of the environment that holds it."""
    options: dict[str, str] = {}
    """What only this kind of system knows."""
    fields: dict[str, Value] = {}
    sending: Sending = Sending()
    outcomes: Outcomes = Outcomes()
    owners: dict[str, str] = {}
    """Ids of sales people → what the other system calls them."""

    @property
    def channel(self) -> str:
        """Under which its tellings stand in the outbox."""
        return channel_of(self.name)

    @property
    def base(self) -> str:
        return (self.url or f"https://{self.host}").rstrip("/")


class CrmRules(Data):
    """All of it. Without a crm.py: no system, and nothing goes anywhere."""

    systems: tuple[System, ...] = ()

    def system(self, name: str) -> System:
        """Raises `NotFound` with the nearest names."""
        for one in self.systems:
            if one.name == name:
                return one
        raise NotFound("CRM system", name, [one.name for one in self.systems])

    def dump(self) -> str:
        return written_json(self)

    @classmethod
    def load(cls, text: str) -> Self:
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:  # of a later version: better nothing than half of it
            raise ValueError(f"these rules of CRM cannot be read: {error.error_count()} problems") from None


def channel_of(name: str) -> str:
    return f"crm:{name}"


def minutes_of(span: timedelta) -> int:
    return int(span.total_seconds() // 60)
