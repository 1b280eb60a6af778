"""Reads `scenarios/scoring.py` and `scenarios/mapping.csv` beside it, and checks them together."""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from mebae import scoring_language
from mebae.errors import MebaeError, Problem, ScenarioError, did_you_mean
from mebae.scoring_compiling import compile_scoring
from mebae.scoring_language import Scoring
from mebae.scoring_mapping import Mapping
from mebae.scoring_model import ScoringModel

SCORING_FILE = "scoring.py"
MAPPING_FILE = "mapping.csv"


@dataclass(frozen=True)
class LoadedScoring:
    """The scoring model with its table of titles and industries."""

    model: ScoringModel
    mapping: Mapping
    file: Path

    @property
    def version(self) -> str:
        """Of both: another table gives other ranks, and so other scores."""
        return hashlib.sha256(f"{self.model.version} {self.mapping.version}".encode()).hexdigest()[:16]


def load_scoring(root: Path, *, events: Collection[str] | None = None) -> LoadedScoring | None:
    """The scoring model under `root` (the project's root or its `scenarios` folder); None if there is no `scoring.py`.

    `events` are the names of the tracking plan; None leaves them unchecked. A missing `mapping.csv` is an empty one.
    Raises `ScenarioError` with every problem of both files.
    """
    root = Path(root).resolve()
    home = root / "scenarios" if (root / "scenarios").is_dir() else root
    path, table = home / SCORING_FILE, home / MAPPING_FILE
    if not path.is_file():
        return None
    problems: list[Problem] = []
    mapping: Mapping | None = Mapping()
    if table.is_file():
        try:
            mapping = Mapping.load(_decoded(table), _place(table))
        except ScenarioError as error:
            problems, mapping = error.problems, None
    scoring = _read(path, problems)
    if scoring is not None:
        try:
            model = compile_scoring(
                scoring, file=_place(path), mapping=mapping, mapping_file=_place(table), events=events
            )
        except ScenarioError as error:
            problems = [*error.problems, *problems]
        else:
            if not problems and mapping is not None:
                return LoadedScoring(model, mapping, path)
    raise ScenarioError(problems)


def _decoded(path: Path) -> str:
    """UTF-8, or what a Japanese Excel saves as CSV."""
    raw = path.read_bytes()
    for encoding in ("utf-8-sig", "cp932"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise ScenarioError([Problem(file=_place(path), message="the file is no UTF-8 text: save it as CSV UTF-8")])


def _place(path: Path, line: int | None = None) -> str:
    short = path.relative_to(path.parents[1]) if len(path.parents) > 1 else path
    return f"{short.as_posix()}:{line}" if line else short.as_posix()


def _read(path: Path, problems: list[Problem]) -> Scoring | None:
    def report(message: str, line: int | None = None) -> None:
        problems.append(Problem(file=_place(path, line), message=message))

    module = _run(path, report)
    if module is None:
        return None
    found = {id(value): value for value in vars(module).values() if isinstance(value, Scoring)}
    if len(found) != 1:
        several = f"there are {len(found)} scoring models: keep one"
        report(several if found else "there is no scoring model: write scoring = Scoring(stages=[…], …)")
        return None
    [scoring] = found.values()
    return scoring


def _run(path: Path, report: Callable[[str, int | None], None]) -> ModuleType | None:
    """Runs the file as a module of its own, from source; what it raises becomes a problem with its line."""
    loader = importlib.machinery.SourceFileLoader("mebae_scoring", str(path))
    spec = importlib.util.spec_from_file_location(loader.name, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    try:
        exec(loader.source_to_code(path.read_bytes(), str(path)), vars(module))  # noqa: S102 - our own scoring file
    except SyntaxError as error:
        report(f"Python can not read this line: {error.msg}", error.lineno)
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        report(_reason(error), lines[-1] if lines else None)
    else:
        return module
    return None


def _reason(error: BaseException) -> str:
    match error:
        case NameError(name=str(name)):
            near = did_you_mean(name, scoring_language.__all__)
            return f"'{name}' is not defined{near if near.startswith(',') else ''}"
        case MebaeError():
            return str(error)
        case _:
            return f"{type(error).__name__}: {error}"
