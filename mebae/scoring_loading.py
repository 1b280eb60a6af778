"""Reads `scenarios/scoring.py` and `scenarios/mapping.csv` beside it, and checks them together."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from mebae import scoring_language
from mebae.errors import Problem, ScenarioError
from mebae.pyfile import decoded, place, read_object, reporter
from mebae.scoring_compiling import compile_scoring
from mebae.scoring_language import Scoring
from mebae.scoring_mapping import Mapping
from mebae.scoring_model import ScoringModel
from mebae.tracking import TrackingPlan

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


def load_scoring(root: Path, *, plan: TrackingPlan | None = None) -> LoadedScoring | None:
    """The scoring model under `root` (the project's root or its `scenarios` folder); None if there is no `scoring.py`.

    `plan` is what its events are checked against; None leaves them unchecked. A missing `mapping.csv` is an empty one.
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
            mapping = Mapping.load(decoded(table), place(table))
        except ScenarioError as error:
            problems, mapping = error.problems, None
    scoring = read_object(
        path, Scoring, scoring_language.__all__, reporter(path, problems),
        what="scoring model", write="scoring = Scoring(stages=[…], …)", several="keep one",
    )  # fmt: skip
    if scoring is not None:
        try:
            model = compile_scoring(
                scoring, file=place(path), mapping=mapping, mapping_file=place(table), plan=plan
            )
        except ScenarioError as error:
            problems = [*error.problems, *problems]
        else:
            if not problems and mapping is not None:
                return LoadedScoring(model, mapping, path)
    raise ScenarioError(problems)
