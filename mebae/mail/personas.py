"""Invented readers, to look at a mail with: one of whom everything is known and one of whom nothing is, in each language."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from mebae.conditions import Scalar
from mebae.errors import NotFound
from mebae.graph import Graph
from mebae.tracking import Property, TrackingPlan

SAMPLE_TEXT = {"ja": "（見本）"}
_DATE = datetime(2026, 4, 15, 1, 0, tzinfo=UTC)


class Persona(NamedTuple):
    """A reader who does not exist."""

    id: str
    words: str
    lead: Mapping[str, Any]
    company: Mapping[str, Any]

    @property
    def is_bare(self) -> bool:
        """Nothing is known of it but the address."""
        return self.id.endswith("-bare")

    @property
    def language(self) -> str:
        return str(self.lead["language"])


_COMMON: dict[str, Any] = {
    "id": 1, "user_id": "u-1001", "score": 62, "stage": "interest", "qualification": "none", "tags": ["seminar"], "topics": ["automation"],
    "excluded": [], "created_at": _DATE - timedelta(days=60), "active_at": _DATE - timedelta(days=2), "contacted_at": None,
    "first_source": "google", "first_campaign": "spring", "last_source": "newsletter", "last_campaign": "april",
}  # fmt: skip
_NOTHING = dict.fromkeys(
    ("user_id", "name", "company", "title", "industry", "company_size", "time_zone", "rank", "industry_group", "active_at",
     "contacted_at", "first_source", "first_campaign", "last_source", "last_campaign")
) | {
    "id": 2, "score": 0, "stage": "awareness", "qualification": "none", "tags": [], "topics": [], "excluded": [],
    "created_at": _DATE,
}  # fmt: skip

PERSONAS = (
    Persona(
        "ja", "山田 花子, of whom everything is known",
        _COMMON | {
            "email": "hanako.yamada@aoba-seiki.example", "name": "山田 花子", "company": "青葉精機株式会社", "title": "生産技術部 部長",
            "industry": "製造業", "company_size": 320, "language": "ja", "time_zone": "Asia/Tokyo", "rank": "部長",
            "industry_group": "manufacturing",
        },
        {"id": 1, "name": "青葉精機株式会社", "domain": "aoba-seiki.example", "industry": "製造業", "size": 320},
    ),
    Persona(
        "ja-bare", "a Japanese address, and nothing else",
        _NOTHING | {"email": "info@midori.example", "language": "ja"},
        dict.fromkeys(("id", "name", "domain", "industry", "size")),
    ),
    Persona(
        "en", "Emily Carter, of whom everything is known",
        _COMMON | {
            "email": "emily.carter@northfield.example", "name": "Emily Carter", "company": "Northfield Components Ltd",
            "title": "Head of Operations", "industry": "Manufacturing", "company_size": 120, "language": "en",
            "time_zone": "Europe/London", "rank": "部長", "industry_group": "manufacturing",
        },
        {"id": 1, "name": "Northfield Components Ltd", "domain": "northfield.example", "industry": "Manufacturing", "size": 120},
    ),
    Persona(
        "en-bare", "an address, and nothing else",
        _NOTHING | {"email": "info@harbour.example", "language": "en"},
        dict.fromkeys(("id", "name", "domain", "industry", "size")),
    ),
)  # fmt: skip


def readers_of(language: str) -> tuple[Persona, ...]:
    """The personas for a text in this language: those who speak it, else the English ones under its name; for every language all.

    >>> [persona.id for persona in readers_of("en-GB")], [persona.language for persona in readers_of("fr")]
    (['en', 'en-bare'], ['fr', 'fr'])
    """
    if not language:
        return PERSONAS
    base = language.lower().partition("-")[0]
    found = tuple(persona for persona in PERSONAS if persona.language == base)
    if found:
        return found
    return tuple(
        persona._replace(id=persona.id.replace("en", base, 1), lead=dict(persona.lead) | {"language": language})
        for persona in PERSONAS
        if persona.language == "en"
    )


def sample_entry(graph: Graph | None, plan: TrackingPlan | None, language: str, *, bare: bool = False) -> dict[str, Scalar]:
    """The properties of an invented start event: those that the tracking plan knows of the events that start the scenario.

    `bare`: only what such an event must have.
    """
    found: dict[str, Scalar] = {}
    for pattern in graph.enters_on if graph is not None else ():
        planned = plan.events.get(pattern.event) if plan is not None else None
        for name, one in planned.properties.items() if planned is not None else ():
            if one.required or not bare:
                found.setdefault(name, _sample(one, language))
        for name, match in pattern.where.items():
            want = match[0] if isinstance(match, (list, tuple)) else match
            found[name] = want.replace("*", "7") if isinstance(want, str) else want
    return found


def _sample(one: Property, language: str) -> Scalar:
    if one.values:
        first = one.values[0]
        return first.replace("*", "7") if isinstance(first, str) else first
    match one.kind:
        case "number":
            return 3
        case "boolean":
            return True
        case "date":
            return _DATE.isoformat()
        case _:
            return SAMPLE_TEXT.get(language, "(sample)")


def persona_named(id: str) -> Persona:
    """Raises `NotFound`."""
    found = next((persona for persona in PERSONAS if persona.id == id), None)
    if found is None:
        raise NotFound("persona", id, [persona.id for persona in PERSONAS])
    return found
