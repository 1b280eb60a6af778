"""`lead.score`, `entry.content`: references that become conditions by comparison, checked as they are written."""

from __future__ import annotations

import math
from typing import Any, Literal, NoReturn, cast

from mebae.conditions import Among, AtLeast, Compare, Condition, Known, Like, ListRef, Not, OlderThan, Scalar, Tagged
from mebae.errors import AuthoringError, did_you_mean
from mebae.timing import Duration
from mebae.words import QUALIFICATIONS

Kind = Literal["text", "number", "stage", "qualification", "date", "tags", "any"]

STANDARD: dict[str, Kind] = {
    "email": "text",
    "user_id": "text",
    "name": "text",
    "company": "text",
    "title": "text",
    "industry": "text",
    "company_size": "number",
    "language": "text",
    "time_zone": "text",
    "score": "number",
    "stage": "stage",
    "qualification": "qualification",
    "tags": "tags",
    "created_at": "date",
    "rank": "text",
    "industry_group": "text",
    "topics": "tags",
    "excluded": "tags",
    "active_at": "date",
    "contacted_at": "date",
    "first_source": "text",
    "first_campaign": "text",
    "last_source": "text",
    "last_campaign": "text",
}
"""The attributes that every lead has (columns of the leads table). Any other name is the user's own attribute."""

COMPUTED: dict[str, str] = {
    "rank": "it follows from the title, by scenarios/mapping.csv: set the title",
    "industry_group": "it follows from the industry, by scenarios/mapping.csv: set the industry",
    "topics": "they follow from what the lead does, by the topics of scenarios/scoring.py: write tag(…)",
    "excluded": "it follows from the exclusions of scenarios/scoring.py: write a tag that an exclusion asks for",
    "active_at": "it is when the lead last did something",
    "contacted_at": "it is when sales last contacted the lead: send the event Sales Contacted",
    "first_source": "it is where the lead came from first",
    "first_campaign": "it is the campaign that brought the lead first",
    "last_source": "it is where the lead came from last",
    "last_campaign": "it is the campaign that brought the lead last",
}
"""What Mebae finds out by itself, and what to do instead of setting it."""

VALUES: dict[str, tuple[str, ...]] = {"lead.qualification": QUALIFICATIONS}
"""The references whose values are the same closed list in every house. Stages are the user's: `mebae.vocabulary`."""

_EXAMPLES = {"lead.tags": "exhibition-2026", "lead.topics": "automation", "lead.excluded": "競合"}


def wrong_value(ref: str, value: object) -> str | None:
    """What is wrong with a value of a closed list, with the nearest right one; None if nothing is.

    >>> wrong_value("lead.qualification", "mq")
    "'mq' is no qualification, did you mean 'mql'?"
    """
    if ref not in VALUES or value in VALUES[ref]:
        return None
    return f"{value!r} is no {ref.removeprefix('lead.')}{did_you_mean(str(value), VALUES[ref])}"


def check_value(ref: str, kind: Kind, value: object) -> Scalar:
    """The value, if it can ever equal what the reference stands for; else an error that shows what can."""
    if value is None:
        raise AuthoringError(f"{ref} is never None: write {ref}.is_known() or ~{ref}.is_known()")
    if isinstance(value, Ref):
        raise AuthoringError(f"{ref} can be compared with a value only, not with another reference ({value!r})")
    if kind == "tags":
        raise AuthoringError(_listed(ref))
    if kind == "date":
        raise AuthoringError(f"{ref} is a date: write {ref}.older_than(days(30)) or ~{ref}.older_than(days(30))")
    if not isinstance(value, (bool, int, float, str)):
        raise AuthoringError(f"{ref} can be compared with a text, a number, True or False, not with {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise AuthoringError(f"{ref} can not be compared with {value!r}: write a finite number")
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == "number" and not number:
        raise AuthoringError(f"{ref} is a number, {value!r} is none: write {ref} >= 50")
    if kind not in ("number", "any") and not isinstance(value, str):
        raise AuthoringError(f'{ref} is a text, {value!r} is none: write {ref} == "{value}"')
    if wrong := wrong_value(ref, value):
        raise AuthoringError(wrong)
    return value


def _listed(ref: str) -> str:
    return f'{ref} is a list: write {ref}.has("{_EXAMPLES.get(ref, "…")}")'


class Ref:
    """A value that is known only when a lead is there. Comparing it gives a condition.

    >>> lead.score >= 50
    Compare(op='ge', ref='lead.score', to=50)
    >>> lead.industry.in_("manufacturing", "construction").to
    ('manufacturing', 'construction')
    >>> lead.stage > "interest"
    Traceback (most recent call last):
    mebae.errors.AuthoringError: lead.stage has no order by < and >: write lead.stage.at_least("interest")
    """

    __slots__ = ("kind", "ref")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, ref: str, kind: Kind) -> None:
        self.ref = ref
        self.kind = kind

    def __repr__(self) -> str:
        return self.ref

    # -- comparison

    def __eq__(self, other: object) -> Condition:  # type: ignore[override]
        return Compare(op="eq", ref=self.ref, to=check_value(self.ref, self.kind, other))

    def __ne__(self, other: object) -> Condition:  # type: ignore[override]
        return Not(of=Compare(op="eq", ref=self.ref, to=check_value(self.ref, self.kind, other)))

    def __gt__(self, other: object) -> Condition:
        return Compare(op="gt", ref=self.ref, to=self._order(other))

    def __ge__(self, other: object) -> Condition:
        return Compare(op="ge", ref=self.ref, to=self._order(other))

    def __lt__(self, other: object) -> Condition:
        return Compare(op="lt", ref=self.ref, to=self._order(other))

    def __le__(self, other: object) -> Condition:
        return Compare(op="le", ref=self.ref, to=self._order(other))

    def _order(self, value: object) -> Scalar:
        if self.kind == "stage":
            raise AuthoringError('lead.stage has no order by < and >: write lead.stage.at_least("interest")')
        if self.kind in ("text", "qualification"):
            raise AuthoringError(
                f'{self.ref} is a text and has no order: write {self.ref} == "…" or {self.ref}.in_("…", "…")'
            )
        checked = check_value(self.ref, self.kind, value)
        if isinstance(checked, (bool, str)):
            raise AuthoringError(
                f"{self.ref} with < or > needs a number, not {value!r}; for a date {self.ref}.older_than(days(30))"
            )
        return checked

    def in_(self, *values: Scalar) -> Condition:
        """It is one of these.

        >>> lead.qualification.in_("none", "mql")
        Among(op='in', ref='lead.qualification', to=('none', 'mql'))
        """
        several: tuple[Any, ...] = values
        if len(several) == 1 and isinstance(several[0], (list, tuple)):
            several = tuple(several[0])
        if not several:
            raise AuthoringError(f'{self.ref}.in_() needs at least one value: {self.ref}.in_("…", "…")')
        return Among(ref=self.ref, to=tuple(check_value(self.ref, self.kind, value) for value in several))

    def not_in(self, *values: Scalar) -> Condition:
        """It is none of these; true for a lead of whom it is not known."""
        return ~self.in_(*values)

    def like(self, glob: str) -> Condition:
        """The text matches, capitals counting; `*` stands for any run of characters.

        >>> lead.title.like("*部長*").to
        '*部長*'
        """
        if self.kind not in ("text", "any"):
            raise AuthoringError(f"{self.ref} is not free text: like() is for texts such as lead.title")
        if not isinstance(glob, str) or not glob:
            raise AuthoringError(f'{self.ref}.like(…) needs a text: {self.ref}.like("*部長*")')
        return Like(ref=self.ref, to=glob)

    def at_least(self, stage: str) -> Condition:
        """This stage or a later one, this rank or a higher one; for `lead.stage` and `lead.rank` only.

        >>> lead.stage.at_least("consideration").to
        'consideration'
        """
        if self.ref == "lead.rank":
            # The compiler, which knows the ranks, lists those that are meant.
            return Compare(op="ge", ref=self.ref, to=check_value(self.ref, self.kind, stage))
        if self.kind != "stage":
            cure = (
                f"write {self.ref} >= 50" if self.kind in ("number", "any") else "only stages and ranks have an order"
            )
            raise AuthoringError(f"at_least() is for lead.stage, not for {self.ref}: {cure}")
        return AtLeast(to=str(check_value(self.ref, self.kind, stage)))

    def is_known(self) -> Condition:
        """It is there and not empty."""
        if self.kind == "tags":
            raise AuthoringError(_listed(self.ref))
        return Known(ref=self.ref)

    def older_than(self, span: Duration) -> Condition:
        """The date is at least so long ago. Becomes true with time.

        >>> lead.created_at.older_than(Duration(days=180)).span.days
        180
        """
        if self.kind not in ("date", "any"):
            raise AuthoringError(f"{self.ref} is no date: older_than() is for lead.created_at and dates of your own")
        if not isinstance(span, Duration):
            raise AuthoringError(f"{self.ref}.older_than(…) needs a duration: {self.ref}.older_than(days(30))")
        return OlderThan(ref=self.ref, span=span)

    def has(self, tag: str) -> Condition:
        """The lead has this tag, topic or exclusion; for `lead.tags`, `lead.topics` and `lead.excluded` only.

        >>> lead.topics.has("automation")
        Tagged(op='tagged', ref='lead.topics', to='automation')
        """
        if self.kind != "tags":
            raise AuthoringError(f'has() is for lead.tags: write lead.tags.has("…") or {self.ref} == "…"')
        if not isinstance(tag, str) or not tag:
            raise AuthoringError(f'{self.ref}.has(…) needs a word: {self.ref}.has("{_EXAMPLES.get(self.ref, "…")}")')
        return Tagged(ref=cast(ListRef, self.ref), to=tag)

    # -- the spellings that can not mean what they say

    def __bool__(self) -> NoReturn:
        raise AuthoringError(
            f"{self.ref} alone is no condition: write {self._example()}; conditions are joined as "
            "(a) & (b), (a) | (b), ~(a), never by `and`, `or`, `not`"
        )

    def __and__(self, other: object) -> NoReturn:
        raise AuthoringError(
            f"{self.ref} alone is no condition: `&` and `|` bind tighter than comparisons, so write the parentheses: "
            f"({self._example()}) & (…)"
        )

    __rand__ = __or__ = __ror__ = __and__

    def __invert__(self) -> NoReturn:
        raise AuthoringError(f"{self.ref} alone is no condition: write ~({self._example()})")

    def __contains__(self, item: object) -> NoReturn:
        cure = f'{self.ref}.has("{item}")' if self.kind == "tags" else f'{self.ref}.like("*{item}*")'
        raise AuthoringError(f"`in` can not ask a reference: write {cure}")

    def __iter__(self) -> NoReturn:
        raise AuthoringError(f"{self.ref} has no value yet and can not be gone through")

    def __format__(self, spec: str) -> NoReturn:
        # An f-string would put the words "lead.company" into the text, the same for every lead.
        raise AuthoringError(f"{self.ref} has no value yet: a text with a lead's values belongs into a mail")

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        known = ("in_", "not_in", "like", "at_least", "is_known", "older_than", "has")
        raise AuthoringError(f"{self.ref}.{name} means nothing{did_you_mean(name, known)}")

    def _example(self) -> str:
        match self.kind:
            case "number":
                return f"{self.ref} >= 50"
            case "stage":
                return 'lead.stage.at_least("interest")'
            case "qualification":
                return 'lead.qualification == "mql"'
            case "tags":
                return f'{self.ref}.has("…")'
            case "date":
                return f"{self.ref}.older_than(days(30))"
            case _:
                return f'{self.ref} == "…"'


class Lead:
    """The lead, as scenarios speak of it: `lead.score`, `lead.industry`, or an attribute of your own (`lead.plan`).

    A name that is no Python word is written `lead["Plan Name"]`.
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Ref:
        if name.startswith("_"):
            raise AttributeError(name)
        return Ref(f"lead.{name}", STANDARD.get(name, "any"))

    def __getitem__(self, name: str) -> Ref:
        return Ref(f"lead.{name}", STANDARD.get(name, "any"))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AuthoringError(f"nothing is set while a scenario is read: write the step set_lead({name}={value!r})")

    def __repr__(self) -> str:
        return "lead"


class Entry:
    """The event that started the journey: `entry.content` is its property `content`; or `entry["Page Title"]`."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Ref:
        if name.startswith("_"):
            raise AttributeError(name)
        return Ref(f"entry.{name}", "any")

    def __getitem__(self, name: str) -> Ref:
        return Ref(f"entry.{name}", "any")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AuthoringError("the entry has happened and can not be changed")

    def __repr__(self) -> str:
        return "entry"


lead = Lead()
entry = Entry()
