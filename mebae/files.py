"""Everything that stands in `scenarios/`, read and checked in one go."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from mebae.beside import Beside, load_beside
from mebae.broadcasts_loading import LoadedBroadcast, load_broadcasts
from mebae.errors import Problem, ScenarioError
from mebae.loading import Loaded, load_all


class Files(NamedTuple):
    """What a worker publishes."""

    scenarios: list[Loaded]
    broadcasts: list[LoadedBroadcast]
    beside: Beside


def read_files(root: Path, *, activities: Collection[str] | None = None) -> Files:
    """Reads the files under `root` (the project's root or its `scenarios` folder).

    `activities` are the names that `run(…)` may call. Raises one `ScenarioError` with every problem of every file.
    """
    problems: list[Problem] = []
    scenarios: list[Loaded] = []
    broadcasts: list[LoadedBroadcast] = []
    beside = load_beside(root / "scenarios" if (root / "scenarios").is_dir() else root)
    try:
        scenarios = load_all(root, activities=activities)
    except ScenarioError as error:
        problems += error.problems  # those of the files beside them are among them
    try:
        broadcasts = load_broadcasts(root, beside)
    except ScenarioError as error:
        problems += error.problems
    if problems:
        raise ScenarioError(problems)
    return Files(scenarios, broadcasts, beside)
