"""The rules of the house that no tool of ours looks at: what each room may import, and what may not happen at import."""

from __future__ import annotations

import ast
import doctest
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from mebae import authoring

ROOT = Path(__file__).parents[1]
ROOT_SCRIPTS = ("worker", "server", "starter")
ROOT_FOLDERS = ("workflows", "activities", "scenarios", "tests", "bench", "docs")
TINY = 160
"""Lines of a root script: it wires, and what decides belongs into `mebae`."""

CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
PURE = next(contract for contract in CONTRACTS if contract["type"] == "forbidden")["source_modules"]
LANGUAGES = (
    "mebae.content_language", "mebae.crm_language", "mebae.sales_language",
    "mebae.authoring", "mebae.scoring_language", "mebae.tracking_language", "mebae.segments_language", "mebae.forms_language",
    "mebae.broadcasts_language", "mebae.sales_language", "mebae.mailing_language",
)  # fmt: skip
"""What the files in `scenarios/` may import of ours: each kind of file its own language."""
OUTSIDE = (
    "temporalio", "sqlalchemy", "sqlmodel", "alembic", "psycopg", "sqlite3",
    "fastapi", "starlette", "uvicorn", "aiosmtplib", "httpx", "urllib.request", "http.client", "smtplib",
)  # fmt: skip


def run_python(code: str, *args: str) -> str:
    """What a fresh interpreter prints, in the project's root and writing no byte code."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MEBAE_", "TEMPORAL_", "DATABASE_"))}
    done = subprocess.run(
        [sys.executable, "-B", "-c", code, *args], cwd=ROOT, env=clean, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# Imports -------------------------------------------------------------------------------------------------------------


def test_the_pure_modules_bring_in_no_temporal_no_database_and_no_network() -> None:
    code = """
import importlib, json, sys
modules, outside = json.loads(sys.argv[1]), json.loads(sys.argv[2])
found = {}
for module in modules:
    importlib.import_module(module)
    new = [name for name in outside if name in sys.modules]
    if new:
        found[module] = new
        break
print(json.dumps(found))
"""
    assert "mebae.journey" in PURE
    assert "mebae.authoring" in PURE
    assert json.loads(run_python(code, json.dumps(PURE), json.dumps(OUTSIDE))) == {}


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """The modules that a file imports, wherever in it, with the line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield ("." * node.level) + (node.module or ""), node.lineno


def forbidden_imports(folder: str, forbidden: tuple[str, ...]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name, line in imported(path)
        if name.split(".")[0] in forbidden
    ]


def test_mebae_never_imports_the_root_folders() -> None:
    assert forbidden_imports("mebae", (*ROOT_SCRIPTS, *ROOT_FOLDERS)) == []


def test_imports_point_from_workflows_to_activities_to_mebae() -> None:
    assert forbidden_imports("workflows", (*ROOT_SCRIPTS, "scenarios", "tests")) == []
    assert forbidden_imports("activities", (*ROOT_SCRIPTS, "workflows", "scenarios", "tests")) == []


def test_a_scenario_imports_the_authoring_language_and_nothing_else_of_ours() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sorted((ROOT / "scenarios").rglob("*.py"))
        for name, line in imported(path)
        if name.split(".")[0] in ("mebae", "temporalio", "sqlalchemy", *ROOT_SCRIPTS, "workflows", "activities")
        and name not in LANGUAGES
    ]
    assert wrong == []


# Root scripts and import time ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", ROOT_SCRIPTS)
def test_root_scripts_stay_tiny(script: str) -> None:
    lines = len((ROOT / f"{script}.py").read_text().splitlines())
    assert lines <= TINY, f"{script}.py has {lines} lines: what decides belongs into mebae/"


LISTENER = """
import gc, importlib, json, pkgutil, sys, threading
# What others do when they are first imported is not ours to judge: they come in beforehand.
import aiosmtpd.smtp, alembic.command, fastapi, sqlmodel, temporalio.client, temporalio.worker, typer, uvicorn, rich.progress
import temporalio.contrib.pydantic, temporalio.envconfig, lxml.html, css_inline, inscriptis, yaml, jinja2, segment.analytics
seen = []

def watch(event, args):
    if event == "open":
        path, mode, flags = args
        if isinstance(path, int):
            return
        if isinstance(mode, str) and set(mode) & set("wax+"):
            seen.append(f"opens {path} to write")
    elif event in ("socket.__new__", "socket.bind", "socket.connect", "sqlite3.connect", "subprocess.Popen", "os.mkdir"):
        seen.append(f"{event} {args[1:]}")

sys.addaudithook(watch)
import mebae
names = [module.name for module in pkgutil.walk_packages(mebae.__path__, "mebae.")]
names = [name for name in names if not name.startswith("mebae.store.migrations.") and name != "mebae.__main__"]
assert "mebae.store.tables" in names and "mebae.programs.up" in names, names
names += ["workflows.journey", "activities.mail", "activities.journeys", "activities.leads", "worker", "server", "starter"]
wrong = {}
for name in names:
    importlib.import_module(name)
    if seen:
        wrong[name] = list(seen)
        seen.clear()
from sqlalchemy import Engine
from temporalio.client import Client
from mebae.settings import Settings
made = sorted({type(one).__name__ for one in gc.get_objects() if isinstance(one, (Engine, Client, Settings))})
threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
print(json.dumps({"wrong": wrong, "made": made, "threads": threads}))
"""


def test_nothing_is_created_at_import_time() -> None:
    """No file, no socket, no database, no process, no thread, no settings: not by mebae and not by the root scripts."""
    assert json.loads(run_python(LISTENER)) == {"wrong": {}, "made": [], "threads": []}


# Files ---------------------------------------------------------------------------------------------------------------


def project_files() -> list[Path]:
    """Every file that is in Git or would go there."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a Git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


# In pieces, or this file would be found itself.
REGISTRIES = re.compile(
    r"(?<!no-emit-)(?:index" r"-url|find" r"-links)|python" r"hosted\.org|py" r"pi\.org|registry\.np" r"mjs|--" r"trusted-host"
)  # fmt: skip
MACHINE_PATHS = re.compile(r"(?<![\w.>)])/(?:wo" r"rk|ro" r"ot|ho" r"me/\w+)/")  # fmt: skip


@pytest.mark.parametrize("what", [REGISTRIES, MACHINE_PATHS], ids=["a registry's host", "a path of one machine"])
def test_no_file_names(what: re.Pattern[str]) -> None:
    found = []
    for path in project_files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if what.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}")
    assert found == []


def test_the_watchmen_see_what_they_should() -> None:
    """The patterns above, on what they are to catch and on what they are to leave alone."""
    assert REGISTRIES.search("pip install --index" + "-url https://mirror.example")
    assert REGISTRIES.search("https://files.python" + "hosted.org/x.whl")
    assert not REGISTRIES.search("uv pip compile --no-emit-index" + "-url")
    assert MACHINE_PATHS.search("cd /wo" + "rk/main")
    assert MACHINE_PATHS.search('"/ho' + 'me/taro/mebae"')
    assert not MACHINE_PATHS.search("https://example.com/wo" + "rk/")


# The language --------------------------------------------------------------------------------------------------------


def test_every_verb_of_the_language_has_an_example_that_runs() -> None:
    finder = doctest.DocTestFinder(recurse=False)
    without = [
        name
        for name in authoring.__all__
        if callable(verb := getattr(authoring, name))
        and not any(test.examples for test in finder.find(verb, name, module=authoring))
    ]
    assert without == []


def test_star_gives_an_author_everything_and_nothing_else() -> None:
    """`from mebae.authoring import *` is all that a scenario needs, so `__all__` is every public name that is ours."""
    own = {
        name
        for name, value in vars(authoring).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == authoring.__name__
    }
    assert set(authoring.__all__) == own | {"lead", "entry"}
