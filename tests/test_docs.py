"""The documentation says what is so: its code runs, its commands exist, its tables are those of the code."""

from __future__ import annotations

import ast
import csv
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import typer
from pydantic import SecretStr
from sqlalchemy import text
from sqlmodel import Session, select

import starter
from mebae import authoring, cli, words
from mebae.authoring import Scenario
from mebae.clock import WorldClock
from mebae.compiling import compile_scenario
from mebae.contracts import SEARCH_ATTRIBUTES
from mebae.errors import Refusal, ScenarioError
from mebae.events import EVENTS
from mebae.graph import End, Graph, targets
from mebae.http.app import create_app
from mebae.loading import load_all, load_scenario
from mebae.mail.rendering import parse_mail
from mebae.references import STANDARD
from mebae.settings import Settings
from mebae.starting import REASONS
from mebae.store.database import Database
from mebae.store.tables import Event
from mebae.verdicts import WHY
from tests.applying import apply_all

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "README.ja.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")])
READMES = [ROOT / "README.md", ROOT / "README.ja.md"]
REFERENCE = (DOCS / "reference" / "scenario-language.md").read_text()
_FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block of a page. Its info string is a language and words of ours: `python no-run`, `markdown file=…`."""

    page: Path
    line: int
    language: str
    words: list[str]
    body: str

    @property
    def runs(self) -> bool:
        return "no-run" not in self.words

    @property
    def file(self) -> str | None:
        return next((word.removeprefix("file=") for word in self.words if word.startswith("file=")), None)


def blocks(language: str, pages: list[Path] = PAGES) -> list[Block]:
    found = []
    for page in pages:
        content = page.read_text()
        for match in _FENCE.finditer(content):
            name, *info = match["info"].split() or [""]
            if name == language:
                found.append(Block(page, content.count("\n", 0, match.start()) + 2, name, info, match["body"]))
    return found


def place(block: Block) -> str:
    return f"{block.page.relative_to(ROOT)}:{block.line}"


def prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text())


# Python --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", blocks("python"), ids=place)
def test_python_runs_and_its_scenarios_compile(block: Block) -> None:
    code = compile("\n" * (block.line - 1) + block.body, str(block.page), "exec")
    if not block.runs:
        return
    names: dict[str, Any] = {name: getattr(authoring, name) for name in authoring.__all__}
    if "Scenario(" in block.body and "scenario =" not in block.body:
        code = compile(f"scenario = {block.body}", str(block.page), "exec")
    exec(code, names)
    for value in names.values():
        if isinstance(value, Scenario):
            compile_scenario(value, file=place(block), mails=None)
    if "steps" in names:
        shown = Scenario("shown", enters_on=authoring.created(), steps=names["steps"])
        compile_scenario(shown, file=place(block), mails=None)


@pytest.mark.parametrize("page", READMES, ids=lambda page: page.name)
def test_the_scenario_of_the_readme_is_the_real_one(page: Path) -> None:
    shown = next(block for block in blocks("python", [page]) if "whitepaper-followup" in block.body)
    names: dict[str, Any] = {}
    exec(shown.body, names)
    real = load_scenario(ROOT / "scenarios" / "whitepaper_followup").graph
    assert compile_scenario(names["scenario"], file=place(shown), mails=None).version == real.version


@pytest.mark.parametrize("page", READMES, ids=lambda page: page.name)
def test_the_picture_of_the_readme_is_the_graph(page: Path) -> None:
    graph = load_scenario(ROOT / "scenarios" / "whitepaper_followup").graph
    picture = next(block.body for block in blocks("mermaid", [page]) if "thanks/branch" in block.body)
    labels = dict(re.findall(r'^\s*(\w+)[\[{(]+"([^"]+)"', picture, re.MULTILINE))
    arrows = re.findall(r"^\s*(\w+) -->(?:\|[^|]+\|)? (\w+)\s*$", picture, re.MULTILINE)
    assert Counter((labels[a], labels[b]) for a, b in arrows) == Counter(edges(graph))


def edges(graph: Graph) -> Iterator[tuple[str, str]]:
    for step in graph.steps:
        if not isinstance(step, End):
            yield from ((step.id, to) for to in targets(step))


@pytest.mark.parametrize("page", READMES, ids=lambda page: page.name)
def test_the_readme_counts_the_leads_of_the_demo(page: Path) -> None:
    with (ROOT / "examples" / "leads.csv").open() as file:
        leads = sum(1 for _ in csv.reader(file)) - 1
    assert str(leads) in prose(page)


# The tutorial --------------------------------------------------------------------------------------------------------


@pytest.fixture
def tutorial(tmp_path: Path) -> Path:
    """The files that the tutorial has its reader write."""
    page = [DOCS / "tutorial.md"]
    for block in (*blocks("python", page), *blocks("markdown", page)):
        assert block.file is not None, place(block)
        path = tmp_path / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.body)
    return tmp_path


def test_the_tutorials_scenario_loads(tutorial: Path) -> None:
    [loaded] = load_all(tutorial)
    assert loaded.graph.scenario == "trial-follow-up"
    assert loaded.graph.has("welcome/wait_for")


def test_the_tutorials_slip_is_answered_as_it_says(tutorial: Path) -> None:
    path = tutorial / "scenarios" / "trial_follow_up" / "scenario.py"
    path.write_text(path.read_text().replace('send("welcome")', 'send("welcom")'))
    with pytest.raises(ScenarioError) as refused:
        load_all(tutorial)
    [shown] = [block.body.strip() for block in blocks("text", [DOCS / "tutorial.md"]) if "slip" in block.words]
    assert str(refused.value) == shown


@pytest.mark.parametrize("block", blocks("markdown"), ids=place)
def test_mails_that_are_shown_are_mails(block: Block) -> None:
    assert parse_mail(block.body, place(block)).subject


# Commands ------------------------------------------------------------------------------------------------------------


def commands(pages: list[Path] = PAGES) -> list[tuple[str, list[str]]]:
    """Every command of the shell blocks, as its words, without comments; `\\` joins lines."""
    found = []
    for block in blocks("sh", pages):
        if not block.runs:
            continue
        for line in block.body.replace("\\\n", " ").splitlines():
            parts = shlex.split(line, comments=True)
            if parts:
                found.append((place(block), parts))
    return found


def test_every_command_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY:(.*)$", makefile, re.MULTILINE)
    assert phony is not None
    seen = Counter[str]()
    # Made once: a new one for each of a hundred lines took 20 s of CPU.
    ours, starters = typer.main.get_command(cli.commands), typer.main.get_command(starter.commands)
    for where, parts in commands():
        if parts[0].startswith("MEBAE_"):  # a setting for this command alone
            assert parts[0].partition("=")[0] in variables(), f"{where}: {parts[0]} is no setting"
            parts = parts[1:]
        match parts:
            case ["make", target]:
                assert target in phony[1].split(), f"{where}: there is no make {target}"
                seen["make"] += 1
            case [".venv/bin/mebae", *args]:
                parse(ours, args, where)
                seen["mebae"] += 1
            case [".venv/bin/python", "starter.py", *args]:
                parse(starters, args, where)
                seen["starter"] += 1
            case [".venv/bin/python", ("worker.py" | "server.py") as program, *args]:
                assert (ROOT / program).is_file()
                assert args in ([], ["--ready-file", f"/tmp/{program.removesuffix('.py')}.ready"]), where
            case [".venv/bin/python", "-m", "pytest", file, "-k", word]:
                assert word in (ROOT / file).read_text(), where
            case ["export", *settings]:
                for one in settings:
                    name = one.partition("=")[0]
                    assert name.startswith("TEMPORAL_") or name in variables(), f"{where}: {name} is no setting"
            case ["curl", *_] | [("KEY=$(cat" | "KEY=$(cat .mebae/write-key)"), *_]:
                pass
            case _:
                raise AssertionError(f"{where}: what is this? {parts}")
    assert all(seen[program] > 3 for program in ("make", "mebae", "starter")), seen


def parse(command: Any, args: list[str], where: str) -> None:
    """Reads arguments as the command would, without running it."""
    try:
        context = command.make_context(command.name or "command", list(args))
        if hasattr(command, "resolve_command"):
            rest = [*context._protected_args, *context.args]
            if not rest and command.invoke_without_command:
                return
            _, sub, rest = command.resolve_command(context, rest)
            parse(sub, rest, where)
    except Exception as error:
        raise AssertionError(f"{where}: {' '.join(args)}: {type(error).__name__} {error}") from None


def test_commands_that_are_only_named_in_prose_exist() -> None:
    known = set(typer.main.get_command(cli.commands).commands)  # type: ignore[attr-defined]
    later = {"draw", "simulate", "backtest"}
    for page in PAGES:
        if page.name == "CHANGELOG.md":
            continue
        for name in re.findall(r"`(?:\.venv/bin/)?mebae ([a-z-]+)", prose(page)):
            assert name in known | later, f"{page.name}: mebae {name}"
        for name in re.findall(r"`make ([a-z-]+)`", prose(page)):
            assert re.search(rf"^{name}:", (ROOT / "Makefile").read_text(), re.MULTILINE), f"{page.name}: make {name}"


async def test_every_curl_is_taken(sqlite_database: Database) -> None:
    """Each curl of the pages, sent to the real app: the answer is 200 and nothing is turned away."""
    app = create_app(sqlite_database, write_keys=["the-key"], clock=WorldClock())
    sent = 0
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8300") as client:
        for where, parts in commands():
            if parts[0] != "curl":
                continue
            match parts:
                case ["curl", "-u", "$KEY:", url, "-d", body]:
                    # curl says form data, whatever it is
                    said = {"Content-Type": "application/x-www-form-urlencoded"}
                    answer = await client.post(url, content=body, auth=("the-key", ""), headers=said)
                case _:
                    raise AssertionError(f"{where}: {parts}")
            assert (answer.status_code, answer.json()) == (200, {"success": True}), where
            sent += 1
    apply_all(sqlite_database)
    stored = await sqlite_database.read(lambda session: session.exec(select(Event.name)).all())
    assert sent >= 8
    assert {"Content Downloaded", "Trial Started", "Page Viewed", "Seminar Registered"} <= set(stored)


def test_every_query_runs(sqlite_database: Database) -> None:
    def ask(session: Session, query: str) -> None:
        session.execute(text(query)).all()

    asked = [line for block in blocks("sql") for line in block.body.splitlines() if line.strip()]
    assert len(asked) >= 3
    for query in asked:
        sqlite_database.write_now(ask, query)


# Tables and lists that must be the code's ----------------------------------------------------------------------------


def rows(page: Path) -> list[list[str]]:
    """All table rows of a page, as cells."""
    lines = [line for line in page.read_text().splitlines() if line.startswith("|") and not set(line) <= set("|- ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


@pytest.mark.parametrize(
    ("table", "page"),
    [
        ("events", "scenario-language.md"), ("kinds", "what-comes-back.md"), ("reasons", "what-comes-back.md"),
        ("crm_values", "crm.md"), ("crm_codes", "crm.md"), ("crm_ignored", "crm.md"),
    ],
)  # fmt: skip
def test_tables_are_what_the_code_prints(table: str, page: str) -> None:
    done = subprocess.run([sys.executable, "-m", "docs.tables", table], cwd=ROOT, capture_output=True, text=True, check=True)
    _, _, rest = (DOCS / "reference" / page).read_text().partition(f"<!-- table: {table}")
    shown = rest.partition("-->\n")[2].partition("<!-- end -->")[0]
    assert shown.strip() == done.stdout.strip(), f"docs/reference/{page}: put in what docs.tables prints"


def test_every_name_of_the_language_has_a_line_in_the_reference() -> None:
    first = {cell.strip("`").partition("(")[0] for row in rows(DOCS / "reference" / "scenario-language.md") for cell in row[:1]}
    assert sorted(set(authoring.__all__) - first) == []


def test_the_reference_names_no_verb_that_does_not_exist() -> None:
    written = {name for code in re.findall(r"`([a-z_]+)\(", REFERENCE) for name in [code]}
    methods = {"in_", "not_in", "like", "at_least", "is_known", "has", "older_than"}
    assert sorted(written - set(authoring.__all__) - methods) == []


def test_every_event_is_explained() -> None:
    said = prose(DOCS / "reference" / "scenario-language.md").partition("<!-- end -->")[2]
    assert [spec.verb for spec in EVENTS if f"`{spec.verb}`" not in said] == []


def test_every_attribute_stage_and_qualification_is_named() -> None:
    wanted = [f"`lead.{name}`" for name in STANDARD] + [f"`{one}`" for one in (*words.STAGES, *words.QUALIFICATIONS)]
    assert [name for name in wanted if name not in REFERENCE] == []


def variables() -> dict[str, str]:
    """Each setting's variable and its default, as a person would write it."""
    found = {}
    for name, field in Settings.model_fields.items():
        variable = str(field.validation_alias or f"MEBAE_{name.upper()}")
        default = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
        found[variable] = "" if default is None else str(default)
    return found


def test_the_settings_page_has_every_setting_with_its_default() -> None:
    shown = {row[0].strip("`"): row[1].strip("`") for row in rows(DOCS / "reference" / "settings.md")}
    assert {name: default for name, default in shown.items() if name.startswith(("MEBAE_", "DATABASE_"))} == variables()


def test_settings_that_pages_name_exist() -> None:
    for page in PAGES:
        for name in re.findall(r"\bMEBAE_[A-Z_]+[A-Z]\b", page.read_text()):
            assert name in variables(), f"{page.relative_to(ROOT)}: {name} is no setting"


def codes_in_code() -> set[str]:
    """Every code that our source can give as a reason: literals in answers, refusals and HTTP errors."""
    where = {"Refused": 0, "Exited": 0, "Postponed": 1, "HttpError": 1, "BrokenMail": 1, "Fate": 1, "refused": 0, "no_more": 1}
    found: set[str] = set()
    for path in [*(ROOT / "mebae").rglob("*.py"), *(ROOT / "activities").rglob("*.py"), *(ROOT / "workflows").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in where:
                at = where[node.func.id]
                if len(node.args) > at and isinstance(value := node.args[at], ast.Constant) and isinstance(value.value, str):
                    found.add(value.value)
    return found | refusals(Refusal)


def refusals(kind: type[Refusal]) -> set[str]:
    return {kind.code}.union(*(refusals(one) for one in kind.__subclasses__()))


def test_every_reason_and_code_is_explained() -> None:
    page = "".join((DOCS / "reference" / name).read_text() for name in ("reasons.md", "crm.md"))
    codes = codes_in_code() | set(REASONS)
    assert {"opted-out", "exits-when", "malformed-json", "mail-missing", "gave-up"} <= codes
    general = {"refused", "temporary", "permanent"}  # of base classes; nothing raises them as they are
    assert sorted(code for code in codes - general if f"`{code}`" not in page) == []


def test_entries_reasons_on_the_page_are_those_of_the_code() -> None:
    page = (DOCS / "reference" / "reasons.md").read_text()
    section = page.partition("## Entries")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE)) == set(REASONS)


def test_rules_that_tell_machines_from_people_on_the_page_are_those_of_the_code() -> None:
    page = (DOCS / "how-to" / "tracking.md").read_text()
    section = page.partition("## People and machines")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE)) == set(WHY)


def test_search_attributes_on_the_page_are_those_of_the_code() -> None:
    page = DOCS / "how-to" / "steer-journeys.md"
    shown = {row[0].strip("`"): row[1] for row in rows(page) if len(row) == 3 and row[1] in ("Keyword", "Int", "Bool")}
    assert shown == SEARCH_ATTRIBUTES
    command = (DOCS / "how-to" / "run-for-real.md").read_text()
    assert dict(re.findall(r"--name (\w+) --type (\w+)", command)) == SEARCH_ATTRIBUTES


# Links and twins -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{target}: there is no such file"
        if anchor:
            assert anchor in anchors(found), f"{target}: there is no such heading"


def anchors(page: Path) -> set[str]:
    """What a forge makes of the headings."""
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for _, title in headings(page)}


def headings(page: Path) -> list[tuple[int, str]]:
    return [(len(marks), title.strip()) for marks, title in re.findall(r"^(#+) (.+)$", prose(page), re.MULTILINE)]


def test_every_page_is_linked_from_the_index() -> None:
    for index in (DOCS / "README.md", DOCS / "decisions" / "README.md"):
        linked = {(index.parent / target.partition("#")[0]).resolve() for target in re.findall(r"\]\(([^)]+)\)", index.read_text())}
        pages = index.parent.glob("0*.md") if index.parent.name == "decisions" else DOCS.rglob("*.md")
        own = [page for page in pages if page != index and (index.parent.name == "decisions" or page.parent.name != "decisions")]
        assert [page.name for page in own if page.resolve() not in linked] == []


def test_decisions_are_numbered_without_a_gap_and_short() -> None:
    pages = sorted((DOCS / "decisions").glob("0*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        content = page.read_text()
        assert content.startswith(f"# {page.name[:4]} "), page.name
        assert len(content.splitlines()) <= 12, f"{page.name}: a decision has ten lines"


def test_the_readmes_are_twins() -> None:
    english, japanese = READMES
    assert [level for level, _ in headings(english)] == [level for level, _ in headings(japanese)]
    for language in ("python", "sh", "mermaid", "text"):
        assert len(blocks(language, [english])) == len(blocks(language, [japanese])), language
    assert commands_of(english) == commands_of(japanese)
    first = [[row[0] for row in rows(page)][1:] for page in READMES]
    assert [one for one in first[0] if one.startswith("`")] == [one for one in first[1] if one.startswith("`")]
    links = [sorted(set(re.findall(r"\]\((docs/[^)]+)\)", page.read_text()))) for page in READMES]
    assert links[0] == sorted({link.replace(".ja.md", ".md") for link in links[1]})


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.ja.md")), ids=lambda page: page.name)
def test_a_page_and_its_japanese_twin_say_the_same(page: Path) -> None:
    """Heading by heading, with the same code (but for its comments), the same commands and tables of the same rows."""
    twin = page.with_name(page.name.replace(".ja.md", ".md"))
    assert [level for level, _ in headings(page)] == [level for level, _ in headings(twin)]
    for language in ("python", "sh", "text", "markdown", "jinja"):
        assert [code_of(block) for block in blocks(language, [page])] == [code_of(block) for block in blocks(language, [twin])], language
    first = [[re.findall("`[^`]+`", cell) for cell in re.findall(r"^\| (.+?) \| ", prose(one), re.MULTILINE)] for one in (page, twin)]
    assert first[0] == first[1]
    listed = [len(re.findall(r"^(?:- |\|)", prose(one), re.MULTILINE)) for one in (page, twin)]
    assert listed[0] == listed[1]
    assert re.search(r"[ぁ-ん]", prose(page))


def code_of(block: Block) -> list[str]:
    lines = block.body.splitlines()
    return lines if block.language == "markdown" else [line for line in lines if not line.strip().startswith("# ")]


def commands_of(page: Path) -> list[list[str]]:
    return [parts for _, parts in commands([page])]


def test_the_changelog_keeps_to_its_format() -> None:
    content = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## \[([^\]]+)\](?: - (\d{4}-\d{2}-\d{2}))?$", content, re.MULTILINE)
    assert versions[0] == ("Unreleased", "")
    for version, day in versions[1:]:
        assert re.fullmatch(r"\d+\.\d+\.\d+", version), version
        assert datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC), version
