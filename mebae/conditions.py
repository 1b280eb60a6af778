"""Conditions as data: what an author writes as `lead.score >= 50` is a frozen model that two evaluators read.

Logic is two-valued. A comparison with a missing attribute, or with a value of another kind, is false; `!=` and `not_in`
are exactly the negation of `==` and `in_`, and so are true for a missing attribute.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel, ConfigDict, Field

from mebae.timing import Duration

Scalar = bool | int | float | str
Match = Scalar | tuple[Scalar, ...]
"""What a property must be: equal, one of several, or (a string with `*`) matching a glob."""


class Data(BaseModel):
    """Frozen data of a graph: unknown fields are refused, so that an old worker never misreads a newer graph."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Pattern(Data):
    """An event by its (canonical) name and properties."""

    event: str
    where: dict[str, Match] = {}


class _Logic(Data):
    """What every condition can do: `&`, `|`, `~`; never `and`, `or`, `not` (authoring raises)."""


class Compare(_Logic):
    """`lead.score >= 50`. Order (`gt` …) is for numbers only; equality is of the same kind (1 is not "1", True is not 1)."""

    op: Literal["eq", "gt", "ge", "lt", "le"]
    ref: str
    to: Scalar


class Among(_Logic):
    """`lead.industry.in_("manufacturing", "construction")`."""

    op: Literal["in"] = "in"
    ref: str
    to: tuple[Scalar, ...]


class Like(_Logic):
    """`lead.title.like("*部長*")`: case-sensitive, `*` stands for any run of characters."""

    op: Literal["like"] = "like"
    ref: str
    to: str


class AtLeast(_Logic):
    """`lead.stage.at_least("consideration")`: this stage or a later one."""

    op: Literal["at_least"] = "at_least"
    ref: Literal["lead.stage"] = "lead.stage"
    to: str


class Known(_Logic):
    """`lead.company.is_known()`: present and not empty (None and "")."""

    op: Literal["known"] = "known"
    ref: str


class Tagged(_Logic):
    """`lead.tags.has("exhibition-2026")`."""

    op: Literal["tagged"] = "tagged"
    to: str


class OlderThan(_Logic):
    """`lead.created_at.older_than(days(180))`: the moment plus the span is not after now. Becomes true with time."""

    op: Literal["older"] = "older"
    ref: str
    span: Duration


class Did(_Logic):
    """`did(visited("/pricing"), times=2, within=days(30))`: at least so many such events, of any time or in the window up to now."""

    op: Literal["did"] = "did"
    pattern: Pattern
    times: int = Field(default=1, ge=1)
    within: Duration | None = None


class All(_Logic):
    op: Literal["and"] = "and"
    of: tuple[Condition, ...]


class Any_(_Logic):
    op: Literal["or"] = "or"
    of: tuple[Condition, ...]


class Not(_Logic):
    op: Literal["not"] = "not"
    of: Condition


Condition = Annotated[
    Union[Compare, Among, Like, AtLeast, Known, Tagged, OlderThan, Did, All, Any_, Not], Field(discriminator="op")
]

for _model in (All, Any_, Not):
    _model.model_rebuild()

_ = Any
