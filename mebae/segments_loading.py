"""Reads `scenarios/segments.py`, and checks it as scenarios are checked; every problem at once."""

from __future__ import annotations

from pathlib import Path

from mebae import segments_language
from mebae.checking import Checker
from mebae.errors import Problem, ScenarioError
from mebae.pyfile import place, read_objects, reporter
from mebae.segments import Saved, compile_segments
from mebae.segments_language import Segment
from mebae.vocabulary import Vocabulary

SEGMENTS_FILE = "segments.py"


def load_segments(root: Path, *, known: Vocabulary | None = None) -> list[Saved]:
    """The segments under `root` (the project's root or its `scenarios` folder), in the order written; none without the file.

    `known` are the words of the scoring model and the tracking plan.

    Raises `ScenarioError` with every problem of the file.
    """
    root = Path(root).resolve()
    home = root / "scenarios" if (root / "scenarios").is_dir() else root
    path = home / SEGMENTS_FILE
    if not path.is_file():
        return []
    problems: list[Problem] = []
    report = reporter(path, problems)
    found = read_objects(path, Segment, segments_language.__all__, report)
    if found is not None and not found:
        report('there is no segment: write segments = [Segment("dormant", title="休眠", when=…)]')
    checker = Checker(place(path), None, known)
    saved = compile_segments([segment for _, segment in found or ()], checker)
    problems += checker.problems
    if problems:
        raise ScenarioError(problems)
    return saved
