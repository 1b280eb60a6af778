"""The rules of hand-over to sales as data: who sells to whom, by when, and what each reason means (DESIGN §9).

`scenarios/sales.py` writes them, by `mebae.sales_language`. Secrets are not among them: a webhook is the name of the variable of
the environment that holds its address.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Self

from pydantic import ValidationError

from mebae.business_time import Hours
from mebae.conditions import Condition, Data
from mebae.errors import NotFound
from mebae.hashed import written_json
from mebae.timing import Duration

Role = Literal["inside", "field", "manager"]
MailWaits = Literal["until-judged", "until-closed", "never"]


class Person(Data):
    """Somebody who sells."""

    id: str
    name: str = ""
    email: str = ""
    """Empty: the workspace's sales address."""
    role: Role = "inside"
    slack: str | None = None
    """The variable of the environment with the webhook that tells this person."""
    language: str | None = None
    """None: the workspace's."""
    takes_leads: bool = True
    """Whether new leads come to this person; a manager's do only where a territory says so."""


class Territory(Data):
    """Whose the leads are for which a condition is true; the first one written counts."""

    when: Condition
    people: tuple[str, ...]


class Clock(Data):
    """A deadline and what follows it. Each span counts from when the step before it was taken, in business time."""

    within: Duration
    """Then the owner is reminded."""
    escalate_after: Duration | None = Duration(business_days=1)
    """After the reminder the managers are told. None: never."""
    expire_after: Duration | None = Duration(business_days=3)
    """After that the lead goes back to nurturing. None: never."""


class Reason(Data):
    """Why a lead was rejected, returned or lost, and how long it is then left alone."""

    code: str
    title: str = ""
    rest: Duration | None = None
    """It becomes no MQL before. None: the rules' own rest."""
    of: tuple[Literal["reject", "return", "lost"], ...] = ("reject", "return", "lost")
    title_en: str = ""

    def titled(self, language: str) -> str:
        """What people call it."""
        japanese = language.lower().startswith("ja")
        return (self.title if japanese else self.title_en or self.title) or self.code


REASONS = (
    Reason(code="too-early", title="時期尚早", title_en="Too early", rest=Duration(days=90)),
    Reason(code="no-budget", title="予算なし", title_en="No budget", rest=Duration(days=90)),
    Reason(code="no-need", title="ニーズなし", title_en="No need", rest=Duration(days=90)),
    Reason(code="no-authority", title="決裁権なし", title_en="No authority"),
    Reason(code="no-contact", title="連絡がつかない", title_en="Cannot be reached", of=("reject", "return")),
    Reason(code="not-a-fit", title="対象外", title_en="Not a fit", rest=Duration(days=180), of=("reject", "return")),
    Reason(code="competitor-chosen", title="競合に決定", title_en="Chose a competitor", rest=Duration(days=180), of=("lost",)),
    Reason(code="other", title="その他", title_en="Other"),
)
"""Where sales.py names none of its own."""


Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class Digest(Data):
    """A mail to sales once a week: who is warm, what gave it and since when."""

    every: Weekday
    at: str = "09:00"
    """In the workspace's zone."""
    when: Condition
    """Whom it tells of."""
    to: tuple[str, ...] = ()
    """Who gets all of it. Empty: each person gets the own leads and those of nobody, managers get all."""
    most: int = 30
    """Leads of one mail; the rest are counted."""


class SalesRules(Data):
    """All rules of hand-over. Without a sales.py: one person, told at the workspace's sales address, and only steps hand over."""

    people: tuple[Person, ...] = (Person(id="sales", name=""),)
    territories: tuple[Territory, ...] = ()
    on_mql: bool = False
    """Whether a lead that becomes an MQL is handed over by itself."""
    response: Clock = Clock(within=Duration(business_days=1))
    """From the opening to the first answer."""
    judgement: Clock = Clock(within=Duration(business_days=10), expire_after=Duration(business_days=10))
    """From the acceptance to SQL or back."""
    reasons: tuple[Reason, ...] = REASONS
    rest: Duration = Duration(days=30)
    """How long a lead that came back is left alone where its reason says nothing."""
    sql: Condition | None = None
    """The SQL rule: shown with its parts to whoever judges, who decides."""
    mail_waits: MailWaits = "until-judged"
    """How long marketing mail waits while the lead is with sales. A mail in a path of `hand_to_sales` never does."""
    hours: Hours = Hours()
    call_within: Duration = Duration(business_days=1)
    """By when a call is to be made where its step says nothing."""
    slack: str | None = None
    """The variable of the environment with the webhook of the team's channel."""
    webhook_hosts: tuple[str, ...] = ("hooks.slack.com",)
    """The hosts that webhooks may go to."""
    webhooks_private: bool = False
    """Whether those may be in a private network."""
    currency: str = "JPY"
    digest: Digest | None = None
    """None: no weekly mail."""

    def person(self, id: str) -> Person:
        """The person of this id. Raises `NotFound` with the nearest ones."""
        for one in self.people:
            if one.id == id:
                return one
        raise NotFound("sales person", id, [one.id for one in self.people])

    def somebody(self, id: str) -> Person:
        """The person of this id, also one who is not in the rules any more: what is theirs does not vanish with them."""
        return next((one for one in self.people if one.id == id), Person(id=id, takes_leads=False))

    def managers(self) -> tuple[Person, ...]:
        return tuple(one for one in self.people if one.role == "manager")

    def reason(self, code: str, move: str) -> Reason:
        """The reason of this code, if it can be one for this move. Raises `NotFound` with those that can."""
        known = self.reasons_for(move)
        for one in known:
            if one.code == code:
                return one
        raise NotFound("reason", code, [one.code for one in known])

    def reasons_for(self, move: str) -> tuple[Reason, ...]:
        """What can be said with this move."""
        return tuple(one for one in self.reasons if move in one.of)

    def rest_of(self, code: str | None) -> Duration:
        """How long a lead that came back for this reason is left alone."""
        found = next((one.rest for one in self.reasons if one.code == code), None)
        return found or self.rest

    def dump(self) -> str:
        return written_json(self)

    @classmethod
    def load(cls, text: str) -> Self:
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:  # of a later version: better the old rules than none
            raise ValueError(f"these rules of sales cannot be read: {error.error_count()} problems") from None


def in_turn(candidates: Iterable[str], last: dict[str, int]) -> str:
    """Whose turn it is: who got a lead longest ago, those who never got one first, in the order written.

    `last`: each person's latest hand-over by its number. It is fair however people come and go, and needs no memory of its own.

    >>> in_turn(["sato", "suzuki", "tanaka"], {"sato": 7, "suzuki": 5, "tanaka": 6})
    'suzuki'
    >>> in_turn(["sato", "suzuki", "tanaka"], {"sato": 7})
    'suzuki'
    """
    return min(candidates, key=lambda one: last.get(one, 0))
