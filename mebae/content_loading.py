"""Reads `scenarios/content.py`, the content catalogue, and checks it; every problem at once."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from mebae import content_language
from mebae.content import Piece
from mebae.content_language import Written
from mebae.errors import Problem, ScenarioError, did_you_mean
from mebae.pyfile import place, read_objects, reporter
from mebae.vocabulary import Vocabulary

CONTENT_FILE = "content.py"

_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def load_content(home: Path, known: Vocabulary) -> dict[str, Piece] | None:
    """The pieces of a `scenarios` folder by id, in the order written; None if there is no `content.py`.

    `known`: stages, groups of industries and topics of the files beside it. Raises `ScenarioError` with every problem.
    """
    path = Path(home).resolve() / CONTENT_FILE
    if not path.is_file():
        return None
    problems: list[Problem] = []
    report = reporter(path, problems)
    found = read_objects(path, Written, content_language.__all__, report)
    if found is not None and not found:
        report('there is no piece: write pieces = [piece("case-mfg", title="…", link="https://…")]')
    pieces: dict[str, Piece] = {}
    for _, one in found or ():
        problems += [
            Problem(file=place(path), message=f"piece '{one.id}': {message}") for message in _wrong(one, known)
        ]
        if one.id in pieces:
            report(f"two pieces are called '{one.id}': an id is there once")
        pieces[one.id] = Piece(
            id=one.id, titles=one.title, links=one.link, stages=one.stage, industries=one.industry, topics=one.topics,
            kind=one.kind, content=one.content, summaries=one.summary,
        )  # fmt: skip
    if problems:
        raise ScenarioError(problems)
    return pieces


def _wrong(one: Written, known: Vocabulary) -> Iterator[str]:
    if not _SLUG.fullmatch(one.id):
        yield 'the id is lower-case words joined by hyphens, such as "case-mfg"'
    for link in one.link.values():
        if urlsplit(link).scheme not in ("http", "https") or not urlsplit(link).hostname:
            yield f"link '{link}': write the whole address, such as https://www.example.jp/cases/mfg"
    if not all(title.strip() for title in one.title.values()):
        yield "the title is empty"
    for what, words, there in (
        ("stage", one.stage, known.stages),
        ("industry", one.industry, known.industry_groups),
        ("topic", one.topics, known.topics),
    ):
        yield from _unknown(what, words, there)


def _unknown(what: str, words: Collection[str], there: Collection[str] | None) -> Iterator[str]:
    for word in words if there is not None else ():
        if word not in (there or ()):
            yield f"{what} '{word}' does not exist{did_you_mean(word, there or ())}"
