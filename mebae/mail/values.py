"""The values that a template sees: under dotted names, and never an empty gap where one is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from jinja2 import StrictUndefined, Undefined, UndefinedError

from mebae.errors import did_you_mean

LEAD_FIELDS = (
    "id", "user_id", "email", "name", "company", "title", "industry", "company_size", "language", "time_zone", "score",
    "stage", "qualification", "tags", "rank", "industry_group", "topics", "excluded", "created_at", "active_at",
    "contacted_at", "first_source", "first_campaign", "last_source", "last_campaign",
)  # fmt: skip
"""What every lead has, filled or not; everything else on `lead` is an attribute of its own."""

COMPANY_FIELDS = ("id", "name", "domain", "industry", "size")
"""What is known of the lead's firm."""
SENDER_FIELDS = ("name", "email", "postal", "contact")

FIELDS = {"lead": LEAD_FIELDS, "company": COMPANY_FIELDS, "sender": SENDER_FIELDS}


class Missing(Undefined):
    """A value that this lead or entry does not have. It is false in an `if`, and fails when printed."""

    def _no(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise UndefinedError(self._undefined_message)

    __str__ = __iter__ = __len__ = _no


class Bag:
    """Values under dotted names. Not a dict, whose `items` or `keys` would shadow an attribute of that name."""

    __slots__ = ("_name", "_strict", "_values")

    def __init__(self, name: str, values: Mapping[str, Any], strict: Sequence[str] = ()) -> None:
        self._name, self._values, self._strict = name, values, strict

    def look(self, key: Any) -> Any:
        if isinstance(key, str) and key in self._values:
            value = self._values[key]
            if value is None or value == "":
                return self._missing(str(key))
            return Bag(f"{self._name}.{key}", value) if isinstance(value, Mapping) else value
        near = did_you_mean(str(key), self._strict) if self._strict else ""
        if "did you mean" in near and key not in self._strict:
            return StrictUndefined(hint=f"{self._name}.{key} does not exist{near}")
        return self._missing(str(key))

    def _missing(self, key: str) -> Missing:
        name = f"{self._name}.{key}"
        return Missing(
            hint=f"{name} is empty here: write {{{{ {name} | default_to('…') }}}} or {{% if {name} %}}", name=name
        )

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)


def bags(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that a template sees, each missing one named."""
    seen: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            seen[name] = Bag(name, value, FIELDS.get(name, ()))
        elif value is None:
            seen[name] = Missing(hint=f"{name} is empty here", name=name)
        else:
            seen[name] = value
    return seen
