"""Scenarios come from folders; whatever is wrong in any of them is told at once, with file and line."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from mebae.errors import ScenarioError
from mebae.loading import find_scenarios, load_all, load_scenario

ROOT = Path(__file__).parents[1]
MAIL = '---\nsubject: "{{ lead.name | sama }}へ"\n---\nこんにちは。\n'
HELLO = """
from mebae.authoring import *

scenario = Scenario("{id}", enters_on=created(), steps=[send("hello"), wait(days(1)), send("more")])
"""


def folder(root: Path, name: str, source: str | None = None, **mails: str) -> Path:
    """A scenario's folder under `root/scenarios`; mails by name, `hello_ja` for `hello.ja.md`."""
    made = root / "scenarios" / name
    made.mkdir(parents=True)
    if source is None:
        source = HELLO.replace("{id}", name.replace("_", "-"))
    (made / "scenario.py").write_text(source, encoding="utf-8")
    for mail, text in (mails or {"hello_ja": MAIL, "more": MAIL}).items():
        (made / f"{mail.replace('_', '.')}.md").write_text(text, encoding="utf-8")
    return made


def problems(root: Path) -> list[str]:
    with pytest.raises(ScenarioError) as refused:
        load_all(root)
    return [str(problem) for problem in refused.value.problems]


def one(root: Path) -> str:
    [problem] = problems(root)
    return problem


def test_the_scenarios_of_this_house_load() -> None:
    loaded = {one.scenario.id: one for one in load_all(ROOT)}["whitepaper-followup"]
    assert loaded.graph.scenario == "whitepaper-followup"
    assert loaded.file == ROOT / "scenarios" / "whitepaper_followup" / "scenario.py"
    sent = {mail for mail, _ in loaded.mails}
    assert sent == {
        "thanks", "comparison", "case-mfg", "case", "basics", "demo-invitation", "seminar-invitation", "newsletter-offer",
    }  # fmt: skip
    assert {language for _, language in loaded.mails} == {"ja", "en"}


def test_a_folder_loads_with_its_mails_by_language(tmp_path: Path) -> None:
    made = folder(tmp_path, "hello_there", hello_ja=MAIL, hello_en=MAIL, more=MAIL, README="# notes")
    loaded = load_scenario(made)
    assert loaded.graph.scenario == "hello-there"
    assert loaded.mails == {
        ("hello", "en"): made / "hello.en.md",
        ("hello", "ja"): made / "hello.ja.md",
        ("more", ""): made / "more.md",
    }


def test_scenarios_are_found_from_the_project_or_its_scenarios_folder(tmp_path: Path) -> None:
    made = [folder(tmp_path, "a"), folder(tmp_path, "b")]
    for other, file in (("layouts", "default.html"), ("blocks", "x.md"), ("_drafts", "x.html"), (".cache", "x.html")):
        (tmp_path / "scenarios" / other).mkdir()
        (tmp_path / "scenarios" / other / file).write_text("{{ body }} {{ footer }}" if other == "layouts" else "x")
    (tmp_path / "scenarios" / "gone" / "__pycache__").mkdir(parents=True)
    (tmp_path / "scenarios" / "notes.py").touch()
    assert find_scenarios(tmp_path) == find_scenarios(tmp_path / "scenarios") == made
    assert [loaded.scenario.id for loaded in load_all(tmp_path)] == ["a", "b"]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="no such folder"):
        load_all(tmp_path / "nowhere")


def test_all_problems_of_all_scenarios_come_at_once(tmp_path: Path) -> None:
    folder(tmp_path, "broken", "from mebae.authoring import *\nscenario = Scenario('broken', steps=[send('a'\n")
    folder(tmp_path, "fine")
    folder(tmp_path, "mistyped", HELLO.replace("{id}", "mistyped").replace('"more"', '"mor"'))
    folder(tmp_path, "raises", "\nfrom mebae.authoring import *\nlead.score and lead.stage\n")
    (tmp_path / "scenarios" / "empty").mkdir()
    (tmp_path / "scenarios" / "empty" / "hello.ja.md").write_text(MAIL, encoding="utf-8")
    found = problems(tmp_path)
    assert len(found) == 4
    broken, empty, mistyped, raises = found
    assert broken == "scenarios/broken/scenario.py:2: Python can not read this line: '(' was never closed"
    assert empty.startswith("scenarios/empty/scenario.py: there is no scenario.py in this folder")
    assert mistyped == "scenarios/mistyped/scenario.py: step 'mor': mail 'mor' not found, did you mean 'more'?"
    assert raises.startswith("scenarios/raises/scenario.py:3: lead.score alone is no condition: write lead.score >= 50")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x = sent('hello')", "'sent' is not defined, did you mean 'send'"),
        ("x = mystery", "'mystery' is not defined"),
        ("x = 1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(1)", "SystemExit: 1"),
        ("import nothing_like_this", "ModuleNotFoundError: No module named 'nothing_like_this'"),
        ("x = send()", "TypeError: send() missing 1 required positional argument: 'mail'"),
        ('x = send("a", ids="b")', "send(…) takes no 'ids', did you mean 'id'?"),
        ('x = Scenario("a", enter_on=created(), steps=[])', "Scenario(…) takes no 'enter_on', did you mean 'enters_on'"),
        ("x = wait(3)", "wait(3): write a duration"),
    ],
)
def test_what_a_scenario_raises_is_told_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    folder(tmp_path, "hello", f"from mebae.authoring import *\n\n{line}\n")
    problem = one(tmp_path)
    assert problem.startswith("scenarios/hello/scenario.py:3: ")
    assert message in problem


def test_the_line_is_the_authors_also_inside_a_function_of_theirs(tmp_path: Path) -> None:
    source = "from mebae.authoring import *\ndef letters():\n    return [wait(7)]\nscenario = Scenario('hello', steps=letters())\n"
    folder(tmp_path, "hello", source)
    assert one(tmp_path).startswith("scenarios/hello/scenario.py:3: wait(7)")


def test_a_folder_holds_one_scenario(tmp_path: Path) -> None:
    folder(tmp_path, "none", "from mebae.authoring import *\n")
    several = HELLO.replace("{id}", "two") + 'another = Scenario("another", steps=[send("hello")])\n'
    folder(tmp_path, "two", several)
    none, two = problems(tmp_path)
    assert none == 'scenarios/none/scenario.py: there is no scenario: write scenario = Scenario("none", …)'
    assert "there are 2 scenarios (scenario, another)" in two


def test_one_scenario_under_two_names_is_one(tmp_path: Path) -> None:
    load_scenario(folder(tmp_path, "hello", HELLO.replace("{id}", "hello") + "same = scenario\n"))


def test_scenario_and_folder_have_the_same_name(tmp_path: Path) -> None:
    folder(tmp_path, "hello", HELLO.replace("{id}", "hello-there"))
    assert "rename the folder to 'hello_there', or write Scenario(\"hello\", …)" in one(tmp_path)


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("Hello\n", ":1", "front matter is missing"),
        ("---\ntopic: product\n---\nHello\n", "", "'subject' is missing"),
        ("---\nsubject: a\n---\nHello\n\n{% if lead.name %}\n", ":6", "endif"),
        ("---\nsubject: '{{ lead.name'\n---\nHello\n", ":2", ""),
        ("---\nsubject: [a\n---\nHello\n", "", ""),
        ("---\nsubject: a\n---\n\n", "", "no text"),
    ],
)
def test_a_broken_mail_is_told_with_its_line(tmp_path: Path, text: str, place: str, message: str) -> None:
    folder(tmp_path, "hello", hello_ja=text, more=MAIL)
    problem = one(tmp_path)
    assert problem.startswith(f"scenarios/hello/hello.ja.md{place}")
    assert message in problem


def test_mail_files_are_utf_8_and_called_by_mail_and_language(tmp_path: Path) -> None:
    made = folder(tmp_path, "hello", hello_ja=MAIL, more=MAIL, hello_v2x9=MAIL)
    (made / "old.ja.md").write_bytes(MAIL.encode("cp932"))
    (made / "bom.ja.md").write_bytes(b"\xef\xbb\xbf" + MAIL.encode())
    assert problems(tmp_path) == [
        "scenarios/hello/hello.v2x9.md: a mail is called name.language.md, such as thanks.ja.md, or thanks.md",
        "scenarios/hello/old.ja.md: the file is no UTF-8 text: save it as UTF-8",
    ]


def test_enrolling_into_a_scenario_beside_this_one(tmp_path: Path) -> None:
    source = 'from mebae.authoring import *\nscenario = Scenario("{id}", steps=[enroll("news-letter")])\n'
    folder(tmp_path, "first", source.replace("{id}", "first"))
    assert "scenario 'news-letter' not found" in one(tmp_path)
    folder(tmp_path, "news_letter")
    load_all(tmp_path)


def test_registered_activities_can_be_named(tmp_path: Path) -> None:
    source = 'from mebae.authoring import *\nscenario = Scenario("hello", steps=[run("crm_sync")])\n'
    made = folder(tmp_path, "hello", source)
    load_scenario(made, activities=["crm_sync"])
    with pytest.raises(ScenarioError, match="did you mean 'crm_synk'"):
        load_scenario(made, activities=["crm_synk"])


def test_folders_do_not_see_each_other(tmp_path: Path) -> None:
    source = HELLO + "leaked = True\n"
    folder(tmp_path, "a", source.replace("{id}", "a"))
    folder(tmp_path, "b", HELLO.replace("{id}", "b") + "assert 'leaked' not in globals()\n")
    before = set(sys.modules)
    load_all(tmp_path)
    assert set(sys.modules) == before
    assert not list(tmp_path.rglob("__pycache__"))


def test_an_edit_within_the_same_second_is_seen(tmp_path: Path) -> None:
    made = folder(tmp_path, "hello")
    file = made / "scenario.py"
    first = load_scenario(made).graph.version
    stamp = file.stat().st_mtime
    file.write_text(file.read_text(encoding="utf-8").replace("days(1)", "days(2)"), encoding="utf-8")
    os.utime(file, (stamp, stamp))
    assert load_scenario(made).graph.version != first


# Everything in one run ------------------------------------------------------------------------------------------------


def beside(root: Path, **files: str) -> None:
    """Files beside the scenarios, by name: `scoring` for `scoring.py`."""
    (root / "scenarios").mkdir(exist_ok=True)
    for name, source in files.items():
        imports = {"scoring": "scoring_language", "events": "tracking_language", "segments": "segments_language"}[name]
        (root / "scenarios" / f"{name}.py").write_text(f"from mebae.{imports} import *\n{source}\n", encoding="utf-8")


def test_every_slip_of_a_file_is_told_and_not_only_the_first(tmp_path: Path) -> None:
    source = """from mebae.authoring import *

letters = [sent("hello"), send("more")]
pause = wait(3)
scenario = Scenario(
    "hello",
    enters_on=dowloaded("a"),
    audience=lead.score and lead.stage,
    steps=[
        *letters,
        pause,
        branch(when(lead.score >= "50", [send("hello")]), otherwise=[send(5)]),
        wait_for(on(visited(""), [send("more")]), within=7),
    ],
)
"""
    folder(tmp_path, "hello", source)
    found = problems(tmp_path)
    lines = [int(problem.split("scenario.py:")[1].split(":")[0]) for problem in found]
    assert lines == [3, 4, 7, 8, 12, 12, 13], found
    assert "'sent' is not defined, did you mean 'send'" in found[0]
    assert not any("letters" in problem or "pause" in problem for problem in found), (
        "what follows from a slip is no problem"
    )


def test_after_an_import_that_fails_nothing_else_is_blamed(tmp_path: Path) -> None:
    folder(tmp_path, "hello", "from mebae.authorin import *\nscenario = Scenario('hello', steps=[send('a')])\n")
    assert one(tmp_path) == "scenarios/hello/scenario.py:1: ModuleNotFoundError: No module named 'mebae.authorin'"


def test_files_with_future_annotations_dataclasses_and_loops_are_run_as_python_runs_them(tmp_path: Path) -> None:
    source = (
        "from __future__ import annotations\nfrom mebae.authoring import *\nx: Nothing = 1\n"
        "steps = []\nfor n in range(2):\n    steps.append(wait(days(n + 1), id=f'w{n}'))\n"
        "scenario = Scenario('hello', enters_on=created(), steps=steps)\n"
    )
    assert load_scenario(folder(tmp_path, "hello", source)).graph.has("w1")


def test_stages_of_the_scoring_model_are_those_that_scenarios_may_name(tmp_path: Path) -> None:
    folder(
        tmp_path,
        "hello",
        HELLO.replace("{id}", "hello").replace("enters_on", "audience=lead.stage.at_least('warm'), enters_on"),
    )
    assert "'warm' is no stage; known: awareness, consideration, interest" in one(tmp_path)
    beside(tmp_path, scoring="scoring = Scoring(stages=[stage('cold'), stage('warm', when=lead.score >= 30)])")
    [loaded] = load_all(tmp_path)
    assert load_scenario(loaded.file.parent).graph == loaded.graph


def test_a_model_that_cannot_be_read_is_told_once_and_not_again_by_every_scenario(tmp_path: Path) -> None:
    folder(
        tmp_path,
        "hello",
        HELLO.replace("{id}", "hello").replace("enters_on", "audience=lead.stage == 'warm', enters_on"),
    )
    beside(tmp_path, scoring="scoring = Scoring(stages=[stage('cold'), stagge('warm', when=lead.score >= 30)])")
    assert one(tmp_path) == "scenarios/scoring.py:2: 'stagge' is not defined, did you mean 'stage'?"


def test_problems_of_all_files_come_in_one_run(tmp_path: Path) -> None:
    folder(tmp_path, "hello", HELLO.replace("{id}", "hello").replace("created()", "tracked('Trial Startet')"))
    beside(
        tmp_path,
        events="plan = Plan(events=[event('Trial Started', title='トライアル開始', properties={'plan': one_of('team')})])",
        scoring="scoring = Scoring(stages=[stage('a')], engagement=[engagement('t', tracked('Trial Started', plan='solo'), 5)])",
        segments="segments = [Segment('dormant', when=did_not(tracked('Trial Strated')))]",
    )
    found = problems(tmp_path)
    assert [problem.partition(": ")[0] for problem in found] == [
        "scenarios/scoring.py", "scenarios/segments.py", "scenarios/hello/scenario.py",
    ]  # fmt: skip
    assert [problem.rpartition("did you mean ")[2] for problem in found[1:]] == ["'Trial Started'?", "'Trial Started'?"]
