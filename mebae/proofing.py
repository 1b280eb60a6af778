"""Every mail, rendered for invented readers of its languages: what `mebae check` says of it before a lead meets it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from mebae.beside import Beside
from mebae.broadcasts_loading import LoadedBroadcast
from mebae.content import Piece
from mebae.errors import Problem, ScenarioError
from mebae.graph import Graph
from mebae.loading import Loaded
from mebae.mail.legal import missing
from mebae.mail.mending import line_of, without, without_block, without_key
from mebae.mail.outgoing import MailSettings
from mebae.mail.personas import Persona, readers_of, sample_entry
from mebae.mail.proofs import Note, proofread
from mebae.mail.rendering import BrokenMail, Rendered, Sender, parse_mail, render
from mebae.mail.shared import Shared, blocks_of
from mebae.mails_loading import load_blocks, load_layouts
from mebae.pyfile import place

UNSUBSCRIBE = "https://mail.example.jp/u/sample"
PREFERENCES = "https://mail.example.jp/p/sample"
NOW = datetime(2026, 4, 1, 1, 0, tzinfo=UTC)
"""The moment at which samples are rendered: the same on every machine and day."""
_TOLD = ("block-missing", "layout-missing")
"""Codes of what who reads the files has told, where it is known which layouts and blocks there are."""
_MOST_SLIPS = 20
"""After so many in one mail its reader has enough to do."""


@dataclass(frozen=True)
class Sheet:
    """One mail's file, with what it is of."""

    scope: str
    title: str
    mail: str
    language: str
    file: Path
    source: str
    where: str
    graph: Graph | None = None

    @property
    def name(self) -> str:
        return f"{self.scope}/{self.mail}"


class Proof(NamedTuple):
    """A mail as one reader gets it; without a mail it would get none, and `broken` says why."""

    sheet: Sheet
    reader: str
    rendered: Rendered | None
    broken: str = ""
    code: str = ""


def sheets(loaded: Iterable[Loaded], broadcasts: Iterable[LoadedBroadcast]) -> Iterator[Sheet]:
    """Every mail of these scenarios and broadcasts, in every language that it has. What is no text at all is left out: who reads the
    files has told that."""
    for one in loaded:
        for (mail, language), path in sorted(one.mails.items()):
            if (source := _text(path)) is None:
                continue
            yield Sheet(one.graph.scenario, one.graph.title, mail, language, path, source, place(path, folders=2), one.graph)
    for run in broadcasts:
        for (mail, language), path in sorted(run.mails.items()):
            if (source := _text(path)) is None:
                continue
            yield Sheet(run.plan.broadcast, run.plan.title, mail, language, path, source, place(path, folders=3))


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        return None


def shared_of(home: Path) -> Shared:
    """The layouts and blocks of the files; what is wrong with them is told by `check` itself."""
    try:
        return Shared(load_layouts(home) or {}, blocks_of(load_blocks(home) or {}))
    except ScenarioError:
        return Shared({})


def sample_values(sheet: Sheet, reader: Persona, settings: MailSettings, beside: Beside) -> dict[str, Any]:
    """What a mail is filled with for an invented reader."""
    tongue = sheet.language or reader.language
    pieces = settings.rules.catalogue
    return {
        "lead": reader.lead,
        "company": reader.company,
        "entry": sample_entry(sheet.graph, beside.plan, tongue, bare=reader.is_bare),
        **values_around(sheet.scope, sheet.title, settings, tongue, str(reader.lead.get("time_zone") or settings.zone)),
        **sample_pieces(pieces, tongue),
    }


def values_around(scope: str, title: str, settings: MailSettings, language: str, zone: str) -> dict[str, Any]:
    """The values that are the same for every reader."""
    return {
        "scenario": {"id": scope, "title": title},
        "sender": settings.sender,
        "unsubscribe_url": UNSUBSCRIBE,
        "preferences_url": PREFERENCES,
        "view_url": None,
        "language": language,
        "time_zone": zone,
        "now": NOW,
    }


def sample_pieces(pieces: Iterable[Piece], language: str) -> dict[str, Any]:
    """The first pieces of the catalogue, standing for those that a lead would get."""
    values = [piece.values(language) for piece in pieces]
    sample = {"id": "sample", "title": "(sample)", "link": "https://www.example.jp/", "kind": "", "summary": ""}
    return {"piece": values[0] if values else sample, "related": values[1:4]}


def proof(sheet: Sheet, reader: str, values: Mapping[str, Any], shared: Shared) -> Proof:
    """One mail for one reader."""
    try:
        mail = parse_mail(sheet.source, sheet.where)
        language = str(values["language"])
        rendered = render(mail, shared.layout_of(mail), values, blocks=shared.blocks_for(language))
    except BrokenMail as broken:
        words = broken.detail.removeprefix(f"{sheet.where}: ").removeprefix(f"{sheet.where}, ")
        return Proof(sheet, reader, None, words, broken.code)
    return Proof(sheet, reader, rendered)


class Remark(NamedTuple):
    """What there is to say of a mail. A serious one is a fault, any other a hint."""

    problem: Problem
    serious: bool


def remarks(sheet: Sheet, settings: MailSettings, beside: Beside, shared: Shared) -> list[Remark]:
    """What there is to say of one mail, each thing once, and all of it: after a slip the mail is read on without it. What is wrong
    for any lead is not among it: who reads the file has told that."""
    told: dict[str, bool] = {}
    readable = _mended(sheet)
    for reader in readers_of(sheet.language) if readable is not None else ():
        assert readable is not None
        values = sample_values(sheet, reader, settings, beside)
        for done in _read_on(readable, reader.words, values, shared):
            if done.code in _TOLD and beside.known.blocks is not None:
                continue
            for note in notes_of(done, settings.sender):
                # Who is not known at all is perhaps none of the audience: that is the author's to know.
                told[note.words] = told.get(note.words, False) or (note.serious and not (done.rendered is None and reader.is_bare))
    return [Remark(Problem(file=sheet.where, message=words), serious) for words, serious in told.items()]


def _read_on(sheet: Sheet, reader: str, values: Mapping[str, Any], shared: Shared) -> Iterator[Proof]:
    """The mail for one reader; of one that it would not get, each reason, and at last the mail without what is wrong with it."""
    for _ in range(_MOST_SLIPS):
        done = proof(sheet, reader, values, shared)
        yield done
        if done.rendered is not None:
            return

        def broken(source: str) -> tuple[str, ...]:
            return (proof(replace(sheet, source=source), reader, values, shared).broken,)  # noqa: B023 - asked at once

        line = line_of(f"{sheet.where}, {done.broken}", sheet.where)
        if line is not None:
            mended = without(sheet.source, line, done.broken, broken)
        else:
            mended = without_key(sheet.source, done.broken) or without_block(sheet.source, done.broken)
        if mended is None:
            return
        sheet = replace(sheet, source=mended)


def _slips(sheet: Sheet) -> tuple[str, ...]:
    """What is wrong with a mail for any lead."""
    try:
        parse_mail(sheet.source, sheet.where)
    except BrokenMail as broken:
        return broken.all
    return ()


def _mended(sheet: Sheet) -> Sheet | None:
    """The mail without its slips; None where one of them is none that one could read on without."""
    for _ in range(_MOST_SLIPS):
        slips = _slips(sheet)
        if not slips:
            return sheet
        line = line_of(slips[0], sheet.where)
        mended = without(sheet.source, line, slips[0], lambda source: _slips(replace(sheet, source=source))) if line else None  # noqa: B023
        if mended is None:
            return None
        sheet = replace(sheet, source=mended)
    return None


def notes_of(done: Proof, sender: Sender) -> Iterator[Note]:
    """What there is to say of a mail for one reader."""
    if done.rendered is None:
        yield Note(f"{done.reader}, would not get this mail: {done.broken}", serious=True)
        return
    yield from proofread(done.rendered)
    lacks = missing(done.rendered, sender, UNSUBSCRIBE)
    if lacks:
        yield Note(f'the law asks for what it does not show: {", ".join(lacks)}; show {{{{ footer }}}} where readers see it', serious=True)


def with_sender(settings: MailSettings) -> MailSettings:
    """Settings whose footer is filled in, if only with an example: a mail's own faults are told, not those of the settings."""
    sender = settings.sender
    filled = replace(sender, postal=sender.postal or "〒100-0001 東京都千代田区千代田1-1", contact=sender.contact or "03-0000-0000")
    return replace(settings, sender=filled)
