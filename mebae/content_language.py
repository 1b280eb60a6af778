"""The language of the content catalogue: `from mebae.content_language import *` is all that `scenarios/content.py` needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mebae.errors import AuthoringError

__all__ = ["piece"]


@dataclass(frozen=True)
class Written:
    """A piece as its author wrote it."""

    id: str
    title: Mapping[str, str]
    link: Mapping[str, str]
    stage: tuple[str, ...]
    industry: tuple[str, ...]
    topics: tuple[str, ...]
    kind: str
    content: str
    summary: Mapping[str, str]


def piece(
    id: str,
    *,
    title: str | Mapping[str, str],
    link: str | Mapping[str, str],
    stage: str | Iterable[str] = (),
    industry: str | Iterable[str] = (),
    topic: str | Iterable[str] = (),
    kind: str = "",
    content: str = "",
    summary: str | Mapping[str, str] = "",
) -> Written:
    """One piece of content: what it is called, where it is, and for whom it is written.

    - `title`, `link`, `summary`: a text for every language, or one a language: `{"ja": "…", "en": "…"}`. A piece is offered to
      leads of the languages that its link is in.
    - `stage`, `industry`: for leads at these stages, of these groups of mapping.csv; for all if left out.
    - `topic`: what it is about, as in scoring.py; who is interested in it gets it first.
    - `content`: the name that downloads of it have (`downloaded("whitepaper-automation")`), if it is another one than the id.

    >>> piece("case-mfg", title="製造業の事例", link="https://example.com/cases/mfg", industry="manufacturing").industry
    ('manufacturing',)
    """
    return Written(
        id=_text(id, 'piece("case-mfg", …)'),
        title=_by_language(title, "title"),
        link=_by_language(link, "link"),
        stage=_texts(stage, 'stage="interest"'),
        industry=_texts(industry, 'industry="manufacturing"'),
        topics=_texts(topic, 'topic="automation"'),
        kind=_text(kind, 'kind="case"'),
        content=_text(content, 'content="whitepaper-automation"'),
        summary=_by_language(summary, "summary") if summary else {},
    )


def _text(value: object, spelling: str) -> str:
    if not isinstance(value, str):
        raise AuthoringError(f"{value!r} is no text: write {spelling}")
    return value


def _texts(value: object, spelling: str) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, Iterable):
        raise AuthoringError(f"{value!r} is neither text nor list: write {spelling}")
    return tuple(_text(one, spelling) for one in value)


def _by_language(value: Any, name: str) -> Mapping[str, str]:
    if isinstance(value, str):
        return {"": value}
    if isinstance(value, Mapping) and value and all(isinstance(one, str) for pair in value.items() for one in pair):
        return dict(value)
    raise AuthoringError(
        f'{name}={value!r}: write {name}="…", or a text for each language: {name}={{"ja": "…", "en": "…"}}'
    )
