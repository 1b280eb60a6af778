"""Reads broadcasts and their mails from `scenarios/broadcasts/`, and checks them as scenarios are checked; every problem at once.

`scenarios/broadcasts/monthly_news/` holds `broadcast.py` with the broadcast `monthly-news`, and its mails.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from mebae import broadcasts_language
from mebae.beside import Beside
from mebae.broadcasts import BroadcastPlan
from mebae.broadcasts_compiling import compile_broadcast
from mebae.broadcasts_language import Broadcast
from mebae.checking import Checker
from mebae.errors import Problem, ScenarioError
from mebae.loading import find_mails, find_scenarios, scenarios_home
from mebae.mail.rendering import BrokenMail, parse_mail
from mebae.pyfile import place, read_object, reporter
from mebae.segments import Saved
from mebae.vocabulary import Vocabulary

BROADCASTS = "broadcasts"
"""The folder."""
BROADCAST_FILE = "broadcast.py"
FOLDERS = 3
"""Above a file that its problems name: `scenarios/broadcasts/monthly_news/broadcast.py`."""

_FRONT = re.compile(r"\A---[ \t]*\n(?P<front>.*?)^---[ \t]*(?:\n|\Z)(?P<body>.*)", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class LoadedBroadcast:
    """One broadcast, ready to be published."""

    plan: BroadcastPlan
    file: Path
    mails: dict[tuple[str, str], Path]
    """The mail files by mail id and language; `""` stands for every language."""

    def sources(self) -> dict[tuple[str, str], str]:
        """The texts to publish by mail id and language: the files', and one for each variant that has a subject of its own."""
        found = {key: path.read_text(encoding="utf-8-sig") for key, path in self.mails.items()}
        for variant in self.plan.ab.variants if self.plan.ab is not None else ():
            if variant.subjects:
                for (mail, language), source in list(found.items()):
                    if mail == variant.mail:
                        found[variant.text, language] = with_subject(source, _subject(variant.subjects, language))
        return found


def find_broadcasts(root: Path) -> list[Path]:
    """The folders of all broadcasts, in the order of their names; `root` as in `find_scenarios`."""
    home = scenarios_home(root) / BROADCASTS
    if not home.is_dir():
        return []
    return sorted(
        one for one in home.iterdir() if one.is_dir() and one.name[0] not in "._" and any(one.glob("[!.]*.*"))
    )


def load_broadcasts(root: Path, beside: Beside) -> list[LoadedBroadcast]:
    """Every broadcast under `root` (as in `find_broadcasts`), checked, in the order of their folders.

    Raises one `ScenarioError` with all problems of all broadcasts; those of the files beside them are in `beside`.
    """
    problems: list[Problem] = []
    loaded = []
    taken = [folder.name.replace("_", "-") for folder in find_scenarios(root)]
    for folder in find_broadcasts(root):
        try:
            loaded.append(load_broadcast(folder, known=beside.known, segments=beside.segments, taken=taken))
        except ScenarioError as error:
            problems += error.problems
    if problems:
        raise ScenarioError(problems)
    return loaded


def load_broadcast(
    folder: Path,
    *,
    known: Vocabulary | None = None,
    segments: Sequence[Saved] | None = None,
    taken: Collection[str] = (),
) -> LoadedBroadcast:
    """The broadcast of one folder. Raises `ScenarioError` with all of its problems, its mails' too.

    `known` and `segments` are what the files beside the scenarios give, `taken` the ids of the scenarios.
    """
    folder = Path(folder).resolve()
    path = folder / BROADCAST_FILE
    problems: list[Problem] = []
    mails = find_mails(folder, problems, folders=FOLDERS, known=known)
    written = _read(path, problems)
    plan = None
    if written is not None:
        languages: dict[str, set[str]] = {}
        for mail, language in mails:
            languages.setdefault(mail, set()).add(language)
        checker = Checker(place(path, folders=FOLDERS), languages, known)
        plan = compile_broadcast(written, checker, mails=languages, segments=segments, taken=taken)
        problems = [*checker.problems, *problems]
    if plan is None:
        raise ScenarioError(problems)
    loaded = LoadedBroadcast(plan, path, mails)
    if problems:
        raise ScenarioError(problems, loaded)
    if wrong := _wrong_subjects(loaded):
        raise ScenarioError(wrong)
    return loaded


def _read(path: Path, problems: list[Problem]) -> Broadcast | None:
    id = path.parent.name.replace("_", "-")
    write = f'broadcast = Broadcast("{id}", …)'
    report = reporter(path, problems, folders=FOLDERS)
    if not path.is_file():
        report(f"there is no {BROADCAST_FILE} in this folder: write one, with {write}")
        return None
    written = read_object(
        path, Broadcast, broadcasts_language.__all__, report,
        what="broadcast", write=write, several="a folder holds one; move the others to folders of their own",
    )  # fmt: skip
    if written is not None and written.id != id:
        report(
            f"the broadcast is called '{written.id}' and its folder '{path.parent.name}': "
            f"rename the folder to '{written.id.replace('-', '_')}', or write Broadcast(\"{id}\", …)"
        )
        return None
    return written


def _wrong_subjects(loaded: LoadedBroadcast) -> list[Problem]:
    """A subject is a template, as in a mail's front matter."""
    problems = []
    where = place(loaded.file, folders=FOLDERS)
    for (mail, _), source in loaded.sources().items():
        if ":" in mail:
            try:
                parse_mail(source, where)
            except BrokenMail as error:
                problems.append(
                    Problem(file=where, message=f"subject {mail.partition(':')[2]}: {error.detail.partition(': ')[2]}")
                )
    return problems


def _subject(subjects: Mapping[str, str], language: str) -> str:
    return subjects.get(language, subjects.get("", ""))


def with_subject(source: str, subject: str) -> str:
    """A mail's source with another subject in its front matter; the body is the same."""
    found = _FRONT.match(source.replace("\r\n", "\n"))
    assert found is not None, "the mail was read before"
    values = {**yaml.safe_load(found["front"]), "subject": subject}
    written = yaml.safe_dump(values, allow_unicode=True, sort_keys=False, width=1_000_000)
    return f"---\n{written}---\n{found['body']}"
