"""Reads mails, and the layouts and blocks that they share, from their folders; every problem at once, with file and line.

| file | is |
| --- | --- |
| `thanks.ja.md`, `thanks.md` | a Markdown or text mail in Japanese; in every language |
| `thanks.ja.html`, `thanks.ja.mjml` | a mail that is a whole page of its author's own |
| `layouts/default.html` | a layout |
| `blocks/signature.ja.md` | a block, shown by `{{ block("signature") }}` |
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from mebae.errors import Problem, ScenarioError, did_you_mean
from mebae.mail.rendering import BrokenMail
from mebae.mail.shared import standard_blocks
from mebae.mail.source import LAYOUT, Format, duties_lacking, parse_block, parse_layout, parse_mail
from mebae.pyfile import place
from mebae.vocabulary import Vocabulary

LAYOUTS_FOLDER, BLOCKS_FOLDER = "layouts", "blocks"
ANY_LANGUAGE = ""
"""The language of `thanks.md`."""

_FORMATS: dict[str, tuple[Format, ...]] = {"md": ("markdown", "text"), "html": ("html",), "mjml": ("mjml",)}
"""What a mail is by the end of its file's name."""
_BEGINS = {"html": "<!doctype html>", "mjml": "<mjml>"}
_MAIL = re.compile(r"(?P<mail>[^.]+)(?:\.(?P<language>[^.]+))?\.(?P<ending>md|html|mjml)")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_SLUG = re.compile(r"[a-z0-9][a-z0-9_-]*")


def find_mails(
    folder: Path, problems: list[Problem], *, folders: int = 2, known: Vocabulary | None = None
) -> dict[tuple[str, str], Path]:
    """The mails beside a scenario or broadcast, by id and language, checked: what is wrong with them goes into `problems`.

    `folders`: how many of the folders above a file its problems name. `known`: whose topics of mail, layouts and blocks are
    right.
    """
    mails: dict[tuple[str, str], Path] = {}
    for path in _texts(folder, _FORMATS):
        parts = _MAIL.fullmatch(path.name)
        language = (parts["language"] or ANY_LANGUAGE) if parts else ""
        where = place(path, folders=folders)
        if parts is None or (language and not _LANGUAGE.fullmatch(language)):
            example = f"thanks.ja{path.suffix}, or thanks{path.suffix}"
            problems.append(
                Problem(file=where, message=f"a mail is called name.language{path.suffix}, such as {example}")
            )
        elif other := mails.get((parts["mail"], language)):
            problems.append(Problem(file=where, message=f"{other.name} is the same mail: keep one of the two"))
        else:
            mails[parts["mail"], language] = path
    for path in mails.values():
        problems.extend(_wrong_mail(path, place(path, folders=folders), known or Vocabulary()))
    return mails


def load_layouts(home: Path) -> dict[str, str] | None:
    """The layouts of a `scenarios` folder by name; None if it has no `layouts`. Raises `ScenarioError` with every problem."""
    folder = Path(home) / LAYOUTS_FOLDER
    if not folder.is_dir():
        return None
    known = block_names(home)
    problems: list[Problem] = []
    found: dict[str, str] = {}
    for path in _texts(folder, ("html",)):
        where = place(path, folders=2)
        if not _SLUG.fullmatch(path.stem):
            problems.append(
                Problem(file=where, message="a layout is called like default.html, in small letters, digits and hyphens")
            )
            continue
        try:
            found[path.stem] = source = path.read_text(encoding="utf-8-sig")
            problems.extend(_unknown_blocks(parse_layout(source, where), where, known))
            if lacking := duties_lacking(source):
                parts = ", ".join(lacking)
                message = f"mails laid out by it do not show {parts}, which the law wants: write {{{{ footer }}}} at its end"
                problems.append(Problem(file=where, message=message))
        except (BrokenMail, UnicodeDecodeError) as error:
            problems.extend(_problems(error, where))
    if LAYOUT not in found and not problems:
        message = f"there is no {LAYOUT}.html, which lays out every mail that names no other"
        problems.append(Problem(file=place(folder, folders=1), message=message))
    if problems:
        raise ScenarioError(problems)
    return found


def load_blocks(home: Path) -> dict[tuple[str, str], str] | None:
    """The blocks of a `scenarios` folder by name and language; None if it has no `blocks`.

    Raises `ScenarioError` with every problem: what cannot be read, blocks that do not exist, and rings of blocks.
    """
    folder = Path(home) / BLOCKS_FOLDER
    if not folder.is_dir():
        return None
    known = block_names(home)
    problems: list[Problem] = []
    found: dict[tuple[str, str], str] = {}
    shows: dict[str, dict[str, tuple[Path, int]]] = {}
    for path in _texts(folder, _FORMATS):
        parts = _MAIL.fullmatch(path.name)
        language = (parts["language"] or ANY_LANGUAGE) if parts else ""
        where = place(path, folders=2)
        if parts is None or parts["ending"] != "md" or (language and not _LANGUAGE.fullmatch(language)):
            message = "a block is Markdown, called name.language.md, such as signature.ja.md, or signature.md"
            problems.append(Problem(file=where, message=message))
            continue
        try:
            found[parts["mail"], language] = source = path.read_text(encoding="utf-8-sig")
            blocks = parse_block(source, where)
        except (BrokenMail, UnicodeDecodeError) as error:
            problems.extend(_problems(error, where))
            continue
        problems.extend(_unknown_blocks(blocks, where, known))
        for name, line in blocks:
            shows.setdefault(parts["mail"], {}).setdefault(name, (path, line))
    problems.extend(_rings(shows))
    if problems:
        raise ScenarioError(problems)
    return found


def layout_names(home: Path) -> tuple[str, ...]:
    """Of the layouts that there are, right or wrong."""
    return tuple(path.stem for path in _texts(Path(home) / LAYOUTS_FOLDER, ("html",)))


def block_names(home: Path) -> tuple[str, ...]:
    """Of the blocks that there are, right or wrong, and those that this house brings."""
    own = {path.name.partition(".")[0] for path in _texts(Path(home) / BLOCKS_FOLDER, ("md",))}
    return tuple(sorted(own | set(standard_blocks())))


def _texts(folder: Path, endings: Iterable[str]) -> list[Path]:
    files = (path for ending in endings for path in folder.glob(f"*.{ending}"))
    return sorted(path for path in files if not path.name.startswith(".") and not path.name.upper().startswith("README."))


def _wrong_mail(path: Path, where: str, known: Vocabulary) -> Iterator[Problem]:
    is_broken = False
    try:
        mail = parse_mail(path.read_text(encoding="utf-8-sig"), where)
    except (BrokenMail, UnicodeDecodeError) as error:
        yield from _problems(error, where)
        if not isinstance(error, BrokenMail) or error.so_far is None:
            return
        mail, is_broken = error.so_far, True
    allowed = _FORMATS[path.suffix[1:]]
    if mail.format not in allowed:
        if begins := _BEGINS.get(allowed[0]):
            file, message = f"{where}:{mail.body_line}", f"it begins with {begins}, after the front matter"
            message += f"; a mail that a layout lays out is Markdown, in {path.stem}.md"
        else:
            file, message = where, f"a whole page in {mail.format.upper()} is called {path.stem}.{mail.format}"
        yield Problem(file=file, message=message)
    # Of a broken one that has no topic it is likelier mistyped, which is told.
    if (wrong := known.wrong_mail_topic(mail.topic)) and (mail.topic or not is_broken):
        yield Problem(file=where, message=wrong)
    if mail.layout != LAYOUT and known.layouts is not None and mail.layout not in known.layouts:
        message = f"layout '{mail.layout}' is none of {LAYOUTS_FOLDER}/{did_you_mean(mail.layout, known.layouts)}"
        yield Problem(file=f"{where}:{mail.layout_line}", message=message)
    if known.blocks is not None:
        yield from _unknown_blocks(mail.blocks, where, known.blocks)


def _unknown_blocks(blocks: Iterable[tuple[str, int]], where: str, known: Iterable[str]) -> Iterator[Problem]:
    known = tuple(known)
    for name, line in blocks:
        if name not in known:
            message = f"block '{name}' is none of {BLOCKS_FOLDER}/{did_you_mean(name, known)}"
            yield Problem(file=f"{where}:{line}", message=message)


def _rings(shows: Mapping[str, Mapping[str, tuple[Path, int]]]) -> Iterator[Problem]:
    """Blocks that show themselves, by way of others or not; each ring once, where its first block in the alphabet begins it."""
    for start in sorted(shows):
        ring = _ring(start, shows)
        if ring is not None and min(ring) == start:
            path, line = shows[start][ring[1] if len(ring) > 1 else start]
            message = f"blocks show each other in a ring: {' → '.join([*ring, start])}"
            yield Problem(file=place(path, line, folders=2), message=message)


def _ring(start: str, shows: Mapping[str, Mapping[str, object]]) -> list[str] | None:
    """The way from a block back to itself, if there is one."""
    ways = [[start]]
    seen: set[str] = set()
    while ways:
        way = ways.pop()
        for name in shows.get(way[-1], ()):
            if name == start:
                return way
            if name not in seen:
                seen.add(name)
                ways.append([*way, name])
    return None


def _problems(error: BrokenMail | UnicodeDecodeError, where: str) -> list[Problem]:
    if isinstance(error, UnicodeDecodeError):
        return [Problem(file=where, message="the file is no UTF-8 text: save it as UTF-8")]
    return [_problem(detail, where) for detail in error.all]


def _problem(detail: str, where: str) -> Problem:
    parts = re.fullmatch(rf"{re.escape(where)}(?:, line (?P<line>\d+))?: (?P<message>.*)", detail, re.DOTALL)
    if parts is None:
        return Problem(file=where, message=detail)
    return Problem(file=f"{where}:{parts['line']}" if parts["line"] else where, message=parts["message"])
