"""Reads `scenarios/mailing.py` and checks it; every problem at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

from mebae import mailing_language
from mebae.errors import BadInput, Problem, ScenarioError, did_you_mean
from mebae.mailing import ANY, BASES, Cap, MailRules, Topic
from mebae.mailing_hours import minutes_of
from mebae.mailing_language import Mailing
from mebae.pyfile import read_object, reporter

MAILING_FILE = "mailing.py"
LONGEST_CAP = timedelta(days=366)

_SLUG = re.compile(r"[a-z0-9]+([_-][a-z0-9]+)*")
_LANGUAGE = re.compile(r"[a-z]{2,3}")


def load_mailing(home: Path) -> MailRules | None:
    """The rules of a `scenarios` folder; None if there is no `mailing.py`. `ScenarioError` with every problem of it."""
    path = Path(home).resolve() / MAILING_FILE
    if not path.is_file():
        return None
    problems: list[Problem] = []
    report = reporter(path, problems)
    written = read_object(
        path, Mailing, mailing_language.__all__, report,
        what="Mailing", write="mailing = Mailing(topics=[…], caps=[…])", several="keep one",
    )  # fmt: skip
    if written is not None:
        for message in _wrong(written):
            report(message)
    if problems or written is None:
        raise ScenarioError(problems)
    return MailRules(
        topics=tuple(written.topics),
        caps=tuple(written.caps),
        hours=written.hours,
        needs_consent=written.needs_consent,
        bases=tuple(written.accepts),
        languages=tuple(written.languages),
    )


def _wrong(written: Mailing) -> Iterator[str]:
    seen: set[str] = set()
    for topic in written.topics:
        yield from (f"topic '{topic.id}': {message}" for message in _wrong_topic(topic))
        if topic.id in seen:
            yield f"two topics are called '{topic.id}': an id is there once"
        seen.add(topic.id)
    yield from _wrong_caps(tuple(written.caps))
    if written.hours is not None:
        try:
            minutes_of(written.hours)
        except BadInput as error:
            yield f"hours=: {error}"
    for basis in written.accepts:
        if basis not in BASES:
            yield f"accepts=: {basis!r} is no ground for mail{did_you_mean(basis, BASES)}"
    for language in written.languages:
        if language != ANY and not _LANGUAGE.fullmatch(language):
            yield f'languages=: {language!r} is no language: write codes such as "ja", or "any"'
    if written.needs_consent and not tuple(written.accepts):
        yield "accepts=[]: then nobody may be written to; leave it out to accept all that the law knows"


def _wrong_topic(topic: Topic) -> Iterator[str]:
    if not _SLUG.fullmatch(topic.id):
        yield 'the id is lower-case words joined by hyphens, such as "product-news"'
    if not topic.titles:
        yield 'leads read its title on their preference page: write ja="…", en="…", or both'
    for language in topic.descriptions:
        if not _LANGUAGE.fullmatch(language):
            yield f"about= has '{language}', which is no language: write codes such as ja or en"


def _wrong_caps(caps: Sequence[Cap]) -> Iterator[str]:
    good = []
    for cap in caps:
        try:
            span = cap.span
        except BadInput:
            yield f"at_most({cap.count}, …): a cap counts in days of 24 hours: write within=days(7), not business days"
            continue
        if not timedelta() < span <= LONGEST_CAP:
            yield f"at_most({cap.count}, …): the span is more than nothing and at most a year"
            continue
        good.append((cap, span))
    for cap, span in good:
        # A cap that allows more in less time than another does never comes to anything.
        stricter = next((one for one, its in good if one is not cap and one.count <= cap.count and its >= span), None)
        if stricter is not None:
            yield (
                f"at_most({cap.count}, …) is never reached, since at_most({stricter.count}, …) allows no more "
                "in a longer time: leave one out"
            )
