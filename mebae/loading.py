"""Reads scenarios and their mails from their folders; nothing of one is seen by another or left in `sys.modules`.

`scenarios/whitepaper_followup/` holds `scenario.py` with the scenario `whitepaper-followup`, and its mails:
`thanks.ja.md`, `thanks.en.md`, or `thanks.md` for every language (`mebae.mails_loading`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from mebae import authoring
from mebae.authoring import Scenario
from mebae.beside import load_beside
from mebae.compiling import compile_scenario
from mebae.errors import Problem, ScenarioError
from mebae.graph import Graph
from mebae.mails_loading import BLOCKS_FOLDER, LAYOUTS_FOLDER
from mebae.mails_loading import find_mails as find_mails
from mebae.pyfile import place, read_object, reporter
from mebae.vocabulary import Vocabulary

SCENARIO_FILE = "scenario.py"

_OTHER_FOLDERS = (LAYOUTS_FOLDER, BLOCKS_FOLDER, "broadcasts")


@dataclass(frozen=True)
class Loaded:
    """One scenario, ready to be published."""

    scenario: Scenario
    graph: Graph
    file: Path
    mails: dict[tuple[str, str], Path]
    """The mail files by mail id and language; `""` stands for every language."""


def find_scenarios(root: Path) -> list[Path]:
    """The folders of all scenarios, in the order of their names.

    `root` is the project's root or its `scenarios` folder. A folder without files is none (Git keeps none either, but
    Python leaves its `__pycache__`), nor are `layouts`, `blocks`, `broadcasts` and what begins with a dot or an underscore.
    Raises `ScenarioError` if there is no such folder.
    """
    home = scenarios_home(root)
    return sorted(folder for folder in home.iterdir() if _is_scenario(folder))


def load_all(root: Path, *, activities: Collection[str] | None = None) -> list[Loaded]:
    """Every scenario under `root` (as in `find_scenarios`), checked, in the order of their folders.

    `activities` are the names that `run(…)` may call; None leaves that unchecked.
    They are checked against the words of the files beside them (stages, topics, segments, events).
    Raises one `ScenarioError` with all problems of all scenarios, and of those files.
    """
    home = scenarios_home(root)
    beside = load_beside(home)
    problems = list(beside.problems)
    loaded: list[Loaded] = []
    for folder in find_scenarios(home):
        try:
            loaded.append(load_scenario(folder, activities=activities, known=beside.known))
        except ScenarioError as error:
            problems.extend(error.problems)
    if problems:
        raise ScenarioError(problems)
    return loaded


def load_scenario(
    folder: Path, *, activities: Collection[str] | None = None, known: Vocabulary | None = None
) -> Loaded:
    """The scenario of one folder. Raises `ScenarioError` with all of its problems, its mails' too.

    Scenarios that it enrolls into are looked for in the folders beside it. `known` are the words that the files beside the
    scenarios give; without it they are read here, and what is wrong with them is not told.
    """
    folder = Path(folder).resolve()
    problems: list[Problem] = []
    known = load_beside(folder.parent).known if known is None else known
    mails = find_mails(folder, problems, known=known)
    scenario = _read_scenario(folder, problems)
    graph = None
    if scenario is not None:
        try:
            graph = compile_scenario(
                scenario,
                file=_place(folder / SCENARIO_FILE),
                mails={mail for mail, _ in mails},
                activities=activities,
                scenarios={_id_of(other) for other in find_scenarios(folder.parent)},
                known=known,
            )
        except ScenarioError as error:
            problems = [*error.problems, *problems]
    if scenario is None or graph is None:
        raise ScenarioError(problems)
    loaded = Loaded(scenario=scenario, graph=graph, file=folder / SCENARIO_FILE, mails=mails)
    if problems:
        raise ScenarioError(problems, loaded)
    return loaded


# -- folders


def scenarios_home(root: Path) -> Path:
    """The `scenarios` folder of a project's root, or the folder itself. Raises `ScenarioError` if there is none."""
    root = Path(root).resolve()
    home = root / "scenarios" if (root / "scenarios").is_dir() else root
    if not home.is_dir():
        raise ScenarioError([Problem(file=str(root), message="no such folder: name the one that holds the scenarios")])
    return home


def _is_scenario(folder: Path) -> bool:
    if not folder.is_dir() or folder.name.startswith((".", "_")) or folder.name in _OTHER_FOLDERS:
        return False
    return any(path.is_file() and not path.name.startswith(".") for path in folder.iterdir())


def _id_of(folder: Path) -> str:
    return folder.name.replace("_", "-")


def _place(path: Path) -> str:
    return place(path, folders=2)


# -- scenario.py


def _read_scenario(folder: Path, problems: list[Problem]) -> Scenario | None:
    path = folder / SCENARIO_FILE

    report = reporter(path, problems, folders=2)
    if not path.is_file():
        report(
            f'there is no {SCENARIO_FILE} in this folder: write one, with scenario = Scenario("{_id_of(folder)}", …)'
        )
        return None
    scenario = read_object(
        path, Scenario, authoring.__all__, report,
        what="scenario", write=f'scenario = Scenario("{_id_of(folder)}", …)',
        several="a folder holds one; move the others to folders of their own",
    )  # fmt: skip
    if scenario is None:
        return None
    if scenario.id != _id_of(folder):
        report(
            f"the scenario is called '{scenario.id}' and its folder '{folder.name}': "
            f"rename the folder to '{scenario.id.replace('-', '_')}', or write Scenario(\"{_id_of(folder)}\", …)"
        )
    return scenario
