"""A scenario becomes a graph with ids that last; a wrong one is refused with all of its problems at once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mebae import plan
from mebae.authoring import (
    Scenario,
    after,
    answered,
    branch,
    business_days,
    call_task,
    choose,
    clicked,
    created,
    days,
    did,
    did_not,
    downloaded,
    end,
    enroll,
    entry,
    go_to,
    hand_to_sales,
    hours,
    lead,
    minutes,
    notify_sales,
    on,
    opened,
    run,
    send,
    set_lead,
    share,
    split,
    submitted,
    tag,
    tracked,
    visited,
    wait,
    wait_for,
    wait_until,
    weeks,
    when,
)
from mebae.compiling import compile_scenario, trigger_id
from mebae.conditions import Compare, Did, Pattern
from mebae.errors import ScenarioError
from mebae.graph import Arm, Branch, Graph, Send, Split, Wait, WaitFor, targets
from mebae.loading import load_scenario
from mebae.timing import Duration

FILE = "scenarios/trial/scenario.py"
GRAPHS = Path(__file__).parent / "graphs"


def compiled(*steps: plan.Step, mails: list[str] | None = None) -> Graph:
    return compile_scenario(Scenario("trial", steps=steps), file=FILE, mails=mails)


def problems(*steps: plan.Step, mails: list[str] | None = None, **known: list[str]) -> list[str]:
    with pytest.raises(ScenarioError) as refused:
        compile_scenario(Scenario("trial", steps=steps), file=FILE, mails=mails, **known)
    return [str(problem) for problem in refused.value.problems]


def ids(graph: Graph) -> list[str]:
    return [step.id for step in graph.steps]


def choice(**more: str) -> plan.Step:
    return send(choose(lead.industry, {"manufacturing": "case-mfg"}, otherwise="case"), **more)  # type: ignore[arg-type]


# -- the scenario of the design


def whitepaper() -> Graph:
    return load_scenario(Path(__file__).parents[1] / "scenarios" / "whitepaper_followup").graph


def test_the_white_paper_scenario_reads_as_it_is_written() -> None:
    graph = whitepaper()
    assert ids(graph) == [
        "thanks",
        "thanks/wait",
        "thanks/branch",
        "comparison",
        "case-study",
        "basics",
        "thanks/wait_for",
        "thanks/hand_to_sales",
        "end/sql",
        "newsletter-offer",
        "end/expired",
        "demo-invitation",
        "seminar-invitation",
        "end/completed",
    ]
    assert graph.start == "thanks"
    assert graph.key == "entry.content"
    assert graph.step("thanks/wait") == Wait(
        id="thanks/wait", span=Duration(business_days=3), at="10:00", next="thanks/branch"
    )
    wait_step = graph.step("thanks/wait_for")
    assert isinstance(wait_step, WaitFor)
    pricing, case = wait_step.arms
    assert pricing.to == "thanks/hand_to_sales"
    assert case.mail == "case-study"
    assert case.on == Pattern(event="Email Link Clicked", where={"mail": ("case-study", "case-mfg", "case")})


def test_every_path_leads_somewhere() -> None:
    graph = whitepaper()
    assert all(graph.has(to) for step in graph.steps for to in targets(step))


# -- ids


def test_unnamed_steps_are_called_after_the_nearest_named_one_before_them() -> None:
    graph = compiled(
        wait(days(1)),
        send("thanks"),
        wait(days(3)),
        branch(
            when(lead.score >= 50, [tag("hot"), send("case"), wait(days(1)), notify_sales()]),
            otherwise=[send("basics"), wait(days(2))],
        ),
        wait_for(
            on(visited("/pricing"), [set_lead(plan="x")]), within=days(7), otherwise=[enroll("news"), run("sync")]
        ),
        split(share("a", 50, [wait_until(entry.starts_at)]), share("b", 50)),
    )
    assert ids(graph) == [
        "start/wait",
        "thanks",
        "thanks/wait",
        "thanks/branch",
        "thanks/tag",
        "case",
        "case/wait",
        "case/notify_sales",
        "basics",
        "basics/wait",
        "thanks/wait_for",
        "thanks/set_lead",
        "thanks/enroll",
        "thanks/run",
        "thanks/split",
        "thanks/wait_until",
        "end/completed",
    ]


def test_a_step_with_an_id_gives_its_name_to_those_after_it_and_inside_it() -> None:
    graph = compiled(send("hello"), branch(when(lead.score > 1, [wait(days(1))]), id="by-score"), notify_sales())
    assert ids(graph) == ["hello", "by-score", "by-score/wait", "by-score/notify_sales", "end/completed"]


def test_an_id_holds_no_duration_condition_or_mail_choice() -> None:
    one = compiled(send("hello"), wait(days(3)), branch(when(lead.score > 1, [send("a")])), choice(id="case"))
    two = compiled(send("hello"), wait(hours(9)), branch(when(lead.plan == "x", [send("a")])), send("z", id="case"))
    assert ids(one) == ids(two)


def test_two_unnamed_of_a_kind_need_an_id_and_the_error_writes_one_that_works() -> None:
    steps: list[plan.Step] = [send("thanks"), wait(days(1)), tag("seen"), wait(days(2)), send("basics"), wait(days(1))]
    [problem] = problems(*steps)
    assert problem.startswith(f"{FILE}: step 'thanks/wait': another unnamed wait")
    [idea] = re.findall(r'write id="([^"]+)"', problem)
    assert idea == "thanks/wait-before-basics"
    steps[3] = wait(days(2), id=idea)
    assert idea in ids(compiled(*steps))


def test_the_same_mail_twice_needs_an_id() -> None:
    [problem] = problems(send("thanks"), wait(days(1)), send("thanks"))
    assert 'send("thanks", id="thanks-again")' in problem


def test_a_chosen_mail_needs_an_id() -> None:
    [problem] = problems(send("thanks"), choice())
    assert 'write id="thanks/chosen-mail"' in problem


def test_one_list_of_steps_used_in_two_paths_is_two_steps() -> None:
    reminder = [send("reminder")]
    [problem] = problems(
        send("a"), wait_for(on(visited(), reminder), on(submitted(), reminder), within=days(1), otherwise=[end()])
    )
    assert "two steps have the id 'reminder'" in problem


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a//b", "/a", "end/x", "start", "x" * 101])
def test_what_can_not_be_an_id_is_refused(name: str) -> None:
    assert len(problems(send("thanks", id=name))) == 1


def test_a_japanese_id_is_fine() -> None:
    assert ids(compiled(send("thanks", id="お礼"), wait(days(1)))) == ["お礼", "お礼/wait", "end/completed"]


# Marked steps in random plans: what a step is can be told by its mark, whatever its id.

marks = st.integers(min_value=1, max_value=10**6)


@st.composite
def paths(draw: st.DrawFn, depth: int = 0) -> list[plan.Step]:
    """A list of steps in which every named step is followed by at most one unnamed one of each kind."""
    steps: list[plan.Step] = []
    for _ in range(draw(st.integers(1, 3))):
        mark = draw(marks)
        steps.append(send(f"m{mark}"))
        if draw(st.booleans()):
            steps.append(wait(minutes(mark)))
        if draw(st.booleans()):
            steps.append(tag(f"t{mark}"))
        if depth < 2 and draw(st.integers(0, 2)) == 0:
            inner = [draw(paths(depth=depth + 1)) for _ in range(2)]
            steps.append(
                branch(when(lead.score >= mark, inner[0]), otherwise=inner[1])
                if draw(st.booleans())
                else wait_for(when(lead.score >= mark, inner[0]), within=days(1), otherwise=inner[1])
            )
    return steps


def mark_of(step: object) -> str | None:
    match step:
        case Send(mail=mail):
            return f"send {mail}"
        case Wait(span=span):
            return f"wait {span.minutes}"
        case Branch(cases=(case, *_)) if isinstance(case.when, Compare):
            return f"branch {case.when.to}"
        case WaitFor(arms=(Arm(when=Compare(to=to)), *_)):
            return f"wait_for {to}"
        case _:
            return getattr(step, "add", (None,))[0]


def names(graph: Graph) -> dict[str | None, str]:
    return {mark_of(step): step.id for step in graph.steps}


def places(steps: list[plan.Step], way: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    """Every place at which a step can be put in: indices from the outside in."""
    found = [(*way, at) for at in range(len(steps) + 1)]
    for at, step in enumerate(steps):
        for number, path in enumerate(step.paths):
            found += places(list(path), (*way, at, number))
    return found


def put(steps: list[plan.Step], place: tuple[int, ...], new: plan.Step) -> list[plan.Step]:
    at, *rest = place
    if not rest:
        return [*steps[:at], new, *steps[at:]]
    outer, number, inner = steps[at], rest[0], tuple(rest[1:])
    changed = [put(list(path), inner, new) if n == number else list(path) for n, path in enumerate(outer.paths)]
    again: plan.Step
    if isinstance(outer, plan.Branch):
        again = branch(when(outer.cases[0].condition, changed[0]), otherwise=changed[1])
    else:
        assert isinstance(outer, plan.WaitFor)
        [arm] = outer.arms
        assert isinstance(arm, plan.When)
        again = wait_for(when(arm.condition, changed[0]), within=outer.within, otherwise=changed[1])
    return [*steps[:at], again, *steps[at + 1 :]]


def list_at(steps: list[plan.Step], place: tuple[int, ...]) -> list[plan.Step]:
    if len(place) == 1:
        return steps
    return list_at(list(steps[place[0]].paths[place[1]]), place[2:])


@st.composite
def plans(draw: st.DrawFn) -> list[plan.Step]:
    seen: set[str] = set()
    steps = draw(paths())

    def unique(of: list[plan.Step]) -> bool:
        for step in of:
            if isinstance(step, plan.Send):
                if step.name in seen:
                    return False
                seen.add(str(step.name))
            if not all(unique(list(path)) for path in step.paths):
                return False
        return True

    assume(unique(steps))
    return steps


@given(st.data())
def test_inserting_an_unnamed_step_renames_no_other(data: st.DataObject) -> None:
    steps = data.draw(plans())
    place = data.draw(st.sampled_from(places(steps)))
    before = names(compiled(*steps))
    after_ = names(compiled(*put(steps, place, notify_sales("new"))))
    assert {mark: after_[mark] for mark in before} == before


@given(st.data())
def test_inserting_a_send_renames_no_named_step_and_nothing_unless_it_comes_between_a_step_and_its_namesake(
    data: st.DataObject,
) -> None:
    steps = data.draw(plans())
    place = data.draw(st.sampled_from(places(steps)))
    graph = compiled(*steps)
    before = names(graph)
    after_ = names(compiled(*put(steps, place, send("new"))))
    following = list_at(steps, place)[place[-1] :]
    renamed = {mark for mark in before if before[mark] != after_[mark]}
    if not following or isinstance(following[0], plan.Send):
        assert renamed == set()
    assert not any(str(mark).startswith("send ") for mark in renamed)
    assert all(after_[mark].startswith("new/") for mark in renamed)


def test_inserting_into_a_path_renames_nothing_after_the_branch() -> None:
    def scenario(*more: plan.Step) -> Graph:
        return compiled(send("a"), branch(when(lead.score > 1, [send("b"), *more])), wait(days(1)), notify_sales())

    assert set(ids(scenario())) < set(ids(scenario(send("c"))))


# -- paths


def test_paths_go_on_after_the_branch_unless_they_end_or_go_elsewhere() -> None:
    graph = compiled(
        send("a"),
        wait(days(1)),
        branch(
            when(lead.score > 90, [send("b"), end("hot")]),
            when(lead.score > 50, [go_to("a")]),
            when(lead.score > 30),
            otherwise=[send("c")],
        ),
        send("d"),
    )
    step = graph.step("a/branch")
    assert isinstance(step, Branch)
    assert [case.to for case in step.cases] == ["b", "a", "d"]
    assert targets(graph.step("b")) == ("end/hot",)
    assert targets(graph.step("c")) == ("d",)
    assert targets(graph.step("d")) == ("end/completed",)


def test_ends_with_the_same_outcome_are_one() -> None:
    graph = compiled(send("a"), branch(when(lead.score > 1, [end("x")]), otherwise=[end("x")]))
    assert ids(graph) == ["a", "a/branch", "end/x"]
    assert not graph.has("end/completed")


def test_split_shares_and_their_paths() -> None:
    step = compiled(split(share("a", 12.5, [send("x")]), share("holdout", 87.5))).step("start/split")
    assert isinstance(step, Split)
    assert [(one.name, one.percent, one.to) for one in step.shares] == [
        ("a", 12.5, "x"),
        ("holdout", 87.5, "end/completed"),
    ]


# -- triggers


def arm(event: Pattern, *before: plan.Step) -> Arm:
    graph = compiled(*before, wait_for(on(event), within=days(1), id="listen"))
    step = graph.step("listen")
    assert isinstance(step, WaitFor)
    return step.arms[0]


def test_an_arm_knows_the_mail_that_its_event_names() -> None:
    by_id = arm(clicked("case-study"), choice(id="case-study"))
    assert (by_id.mail, by_id.on) == (
        "case-study",
        Pattern(event="Email Link Clicked", where={"mail": ("case-study", "case-mfg", "case")}),
    )
    plain = arm(opened("a"), send("a"))
    assert (plain.mail, plain.on) == ("a", opened("a"))
    renamed = arm(opened("a"), send("a", id="first"))
    assert (renamed.mail, renamed.on) == ("first", Pattern(event="Email Opened", where={"mail": ("first", "a")}))
    one_of_two = arm(clicked("case"), choice(id="case-study"))
    assert (one_of_two.mail, one_of_two.on) == ("case-study", clicked("case"))
    twice = arm(clicked("a"), send("a", id="first"), send("a", id="second"))
    assert twice.mail is None
    globbed = arm(clicked("case-*"), choice(id="case-study"))
    assert globbed.mail == "case-study"
    any_mail = arm(clicked(), send("a"))
    assert (any_mail.mail, any_mail.on) == (None, clicked())


def test_an_arm_knows_the_form_that_its_event_names() -> None:
    assert arm(submitted("contact")).form == "contact"
    assert arm(answered("needs", timing="now")).form == "needs"
    assert arm(submitted()).form is None
    assert arm(visited("/contact")).form is None


def test_a_condition_on_a_click_means_the_mails_of_the_step_too() -> None:
    graph = compiled(choice(id="case-study"), branch(when(did(clicked("case-study")), [send("a")])))
    step = graph.step("case-study/branch")
    assert isinstance(step, Branch)
    assert step.cases[0].when == Did(
        pattern=Pattern(event="Email Link Clicked", where={"mail": ("case-study", "case-mfg", "case")})
    )


def test_a_trigger_id_depends_on_the_step_and_the_pattern_only() -> None:
    one, two = arm(visited("/a")), arm(visited("/b"))
    assert one.id != two.id
    assert one.id == trigger_id("listen", visited("/a"))
    assert re.fullmatch(r"listen:[0-9a-f]{8}", one.id)
    assert trigger_id("x", lead.a.is_known()) != trigger_id("x", lead.tags.has("lead.a"))


# -- versions


def test_equal_content_has_an_equal_version_and_defaults_do_not_count() -> None:
    bare = compiled(send("a"), wait(days(7)), branch(when(lead.score > 1, [send("b")])))
    spelt = compiled(
        send("a", id="a", on_cap="postpone"),
        wait(weeks(1), at=None, on=None),
        branch(when(lead.score > 1, [send("b"), end("completed")]), otherwise=[]),
        end(),
    )
    assert bare.version == spelt.version
    assert compiled(send("a"), wait(days(8)), branch(when(lead.score > 1, [send("b")]))).version != bare.version


def test_a_graph_comes_back_from_its_dump() -> None:
    for graph in (whitepaper(), every_verb(), with_sales()):
        again = Graph.load(graph.dump())
        assert again == graph
        assert again.version == graph.version


def test_twenty_steps_fit_into_four_kilobytes() -> None:
    steps: list[plan.Step] = []
    for n in range(4):
        steps += [
            send(f"letter-{n}"),
            wait(business_days(3), at="10:00"),
            branch(when((lead.score >= 50) & (lead.industry == "manufacturing"), [send(f"case-{n}")])),
            wait_for(on(clicked(f"letter-{n}")), on(visited("/pricing")), within=days(7)),
        ]
    graph = compiled(*steps)
    assert len(graph.steps) == 21  # and the end
    assert len(graph.dump().encode()) <= 4096


def every_verb() -> Graph:
    """All steps, conditions and options in one graph: what past formats must still be able to say."""
    return compile_scenario(
        Scenario(
            "every-verb",
            title="すべて",
            enters_on=[downloaded("whitepaper-*"), tracked("Trial Started", plan=["team", "business"], seats=5)],
            key=entry.content,
            audience=lead.industry.in_("manufacturing", "construction") & ~(lead.qualification == "won"),
            exits_when=(lead.qualification == "sql") | did(visited("/unsubscribe"), times=2, within=days(30)),
            re_enter=after(days(90)),
            steps=[
                send("hello", on_cap="skip"),
                wait(days(3), at="10:00", on=business_days),
                choice(id="case-study"),
                wait_until(entry.starts_at, minus=days(1), at="09:00", on_late="end"),
                wait_until(lead.renewal, plus=hours(2), id="renewal"),
                branch(
                    when(lead.stage.at_least("interest") & (lead.score >= 49.5), [tag("hot", remove="cold")]),
                    when(
                        lead.title.like("*部長*") | lead.company.is_known(), [set_lead(plan="trial", seats=3, vip=True)]
                    ),
                    when(lead.tags.has("fair") & lead.created_at.older_than(weeks(4)), [enroll("news")]),
                    otherwise=[run("sync", list="hot", depth=2, ratio=0.5, full=False)],
                ),
                wait_for(
                    on(clicked("case-study"), [notify_sales("クリック"), end("sales-told")]),
                    on(answered("needs", timing="now"), [go_to("hello")]),
                    when(did_not(opened(), within=days(90)), [end("silent")]),
                    within=weeks(2),
                    otherwise=[split(share("a", 33.3, [send("last")]), share("holdout", 66.7))],
                ),
            ],
        ),
        file=FILE,
        mails=None,
    )


def with_sales() -> Graph:
    """What sales is asked, in every way: format 2."""
    return compile_scenario(
        Scenario(
            "with-sales",
            exits_when=lead.qualification == "sql",
            steps=[
                call_task(
                    "面談希望", id="call", due=hours(4), method="video", script="予算", within=days(5),
                    appointment=[hand_to_sales("面談予約", id="sales", accepted=[send("intro"), go_to("sales")], sql=[end("sql")])],
                    no_answer=[wait(days(1)), go_to("call")], expired=[], talked=[],
                ),
                hand_to_sales("料金", id="again", returned=[send("offer")], expired=[end("expired")], won=[], lost=[], within=days(90)),
            ],
        ),
        file=FILE,
        mails=None,
    )  # fmt: skip


def test_todays_compiler_still_makes_the_golden_graphs() -> None:
    """If this fails on purpose, add a new file to tests/graphs/ and leave the old ones: journeys carry them."""
    golden = {
        path.stem.partition("@")[0]: path.stem.partition("@")[2] for path in sorted(GRAPHS.glob("format-*/*.json"))
    }
    assert golden["every-verb"] == every_verb().version
    assert golden["with-sales"] == with_sales().version


@pytest.mark.parametrize("path", sorted(GRAPHS.glob("*/*.json")), ids=lambda path: path.stem)
def test_graphs_of_every_past_format_load_with_unchanged_versions(path: Path) -> None:
    text = path.read_text(encoding="utf-8").strip()
    graph = Graph.load(text)
    assert f"{graph.scenario}@{graph.version}" == path.stem
    assert f"format-{graph.format}" == path.parent.name
    assert graph.dump() == text


def test_there_are_golden_graphs() -> None:
    assert len(list(GRAPHS.glob("format-1/*.json"))) >= 2


# -- what is refused


def test_all_problems_come_at_once_each_with_its_place_and_the_nearest_right_name() -> None:
    found = problems(
        send("helo"),
        wait(days(0), at="25:00"),
        branch(when(lead.industy == "x", [end("a"), send("hello")]), otherwise=[go_to("hlo")]),
        send("hello", id="never"),
        split(share("a", 50), share("b", 40)),
        mails=["hello"],
    )
    text = "\n".join(found)
    assert all(line.startswith(f"{FILE}: step '") for line in found)
    for part in (
        "step 'helo': mail 'helo' not found, did you mean 'hello'?",
        "step 'helo/wait': wait(…): a duration of zero",
        "step 'helo/wait': at=\"25:00\" is no time of day",
        "step 'helo/branch': no lead has 'lead.industy', did you mean 'lead.industry'?",
        "step 'helo/branch': go_to(\"hlo\"): there is no such step, did you mean 'helo' or 'hello'?",
        "step 'hello': can never be reached: it stands after end(…)",
        "step 'never': can never be reached",
        "add up to 100, not to 50 + 40 = 90",
    ):
        assert part in text
    assert len(found) == 8


def one(*steps: plan.Step, mails: list[str] | None = None, **known: list[str]) -> str:
    [problem] = problems(*steps, mails=mails, **known)
    return problem


def test_values_that_mean_nothing_are_refused() -> None:
    assert "days(-1) is negative" in one(wait(days(-1)))
    assert "more than ten years" in one(wait(days(10_000)))
    assert '"24:00" is no time of day' in one(wait(days(1), at="24:00"))
    assert '"10:60" is no time of day' in one(wait_until(entry.x, at="10:60"))
    assert "minus=: a duration of zero" in one(wait_until(entry.x, minus=days(0)))
    assert "both plus= and minus=" in one(wait_until(entry.x, plus=days(1), minus=days(1)))
    assert "did you mean 'lead.created_at'" in one(wait_until(lead.creatd_at))
    assert "did you mean 'lead.industry'" in one(set_lead(industri="x"))
    assert "did(…, within=…): a duration of zero" in one(branch(when(did(visited(), within=days(0)), [end()])))
    assert "no limit: write within=days(7)" in one(wait_for(on(visited())))
    assert "listens for nothing" in one(wait_for(within=days(1)))
    assert "listens for the same thing twice" in one(wait_for(on(visited("/a")), on(visited("/a")), within=days(1)))
    assert "branch has no case" in one(branch())
    assert "two parts at least" in one(split(share("a", 100)))
    assert "between 0 and 100" in one(split(share("a", 150), share("b", -50)))
    assert "two parts named 'a'" in one(split(share("a", 50), share("a", 50)))
    assert "tag() changes nothing" in one(tag())
    assert "both added and removed" in one(tag("a", remove="a"))
    assert "sets nothing" in one(set_lead())
    assert "write a short name" in one(send("a"), end("sold to them"))
    assert "the name of the mail is empty" in one(send(""))
    assert "did you mean 'crm_sync'" in one(run("crm_synk"), activities=["crm_sync"])
    assert "did you mean 'newsletter'" in one(enroll("newsleter"), scenarios=["newsletter"])
    assert 'write end("x")' in one(send("a"), go_to("end/x"))
    assert "no stage, did you mean 'interest'?" in one(
        branch(when(Compare(op="eq", ref="lead.stage", to="interst"), [end()]))
    )
    assert "no stage, did you mean 'interest'?" in one(
        wait_for(on(tracked("Stage Reached", stage="interst")), within=days(1))
    )


def test_a_chosen_mail_is_looked_for_too() -> None:
    assert "mail 'case-mfg' not found" in one(choice(id="x"), mails=["case", "cases"])


def test_the_head_of_a_scenario_is_checked_too() -> None:
    with pytest.raises(ScenarioError) as refused:
        compile_scenario(
            Scenario(
                "Trial Follow",
                key=lead.company,
                re_enter="allways",  # type: ignore[arg-type]
                audience=lead.compny == "x",
                exits_when=lead.created_at.older_than(days(0)),
                steps=[],
            ),
            file=FILE,
            mails=None,
        )
    text = str(refused.value)
    assert len(refused.value.problems) == 6
    for part in (
        "lower-case words joined by hyphens",
        "write key=entry.content",
        '"never", "always" or after(days(30))',
        "audience: no lead has 'lead.compny', did you mean 'lead.company'",
        "exits_when: older_than(…): a duration of zero",
        "needs steps",
    ):
        assert part in text


def test_a_key_in_quotes_is_shown_how_to_write_it() -> None:
    with pytest.raises(ScenarioError, match=re.escape("write key=entry.content")):
        compile_scenario(
            Scenario("trial", key="content", steps=[send("a")]),  # type: ignore[arg-type]
            file=FILE,
            mails=None,
        )


def test_waiting_for_a_click_on_a_mail_that_nobody_sends_is_refused() -> None:
    def listening(name: str) -> tuple[plan.Step, ...]:
        return send("thanks"), wait_for(on(clicked(name)), within=days(1))

    assert "did you mean 'thanks'?" in one(*listening("thank"))
    assert "no step of this scenario sends that mail" in one(*listening("other"), mails=["thanks", "other"])
    assert "did you mean 'thanks'?" in one(send("thanks"), branch(when(did(clicked("thank")), [end()])))


def test_having_clicked_a_mail_of_another_scenario_is_a_fine_condition() -> None:
    compiled(send("news-2"), branch(when(did(clicked("summer-sale")) | did(clicked("news-1")), [send("a")])))


def test_an_attribute_of_your_own_is_fine() -> None:
    compiled(branch(when((lead.plan == "trial") & lead.renewal_date.older_than(days(3)), [send("a")])))


def test_steps_that_nothing_leads_to_are_refused_once_a_stretch() -> None:
    assert "'b': can never be reached: it stands after go_to(…)" in one(
        send("a"), wait(days(1)), go_to("a"), send("b"), send("c"), wait(days(1))
    )
    assert "can never be reached: it stands after end(…)" in one(send("a"), end("x"), end("y"))
    compiled(send("a"), branch(when(lead.score > 1, [go_to("b")])), end("x"), send("b"))  # reached by go_to


# -- loops


def test_a_loop_without_a_wait_is_refused() -> None:
    assert "a loop without a wait: a → b → a" in one(send("a"), send("b"), go_to("a"))
    assert "a loop without a wait" in one(branch(when(lead.score > 1, [go_to("x")]), id="x"))


def test_a_loop_through_a_condition_or_a_past_date_is_none_that_waits() -> None:
    maybe_true = wait_for(when(lead.score > 1, [go_to("a")]), on(visited()), within=days(1))
    assert "a loop without a wait" in one(send("a"), maybe_true)
    assert "a loop without a wait" in one(send("a"), wait_until(entry.starts_at), go_to("a"))


@pytest.mark.parametrize(
    "slow",
    [
        wait(days(1)),
        wait_for(on(visited()), on(clicked()), within=days(1)),
        wait_until(entry.starts_at, on_late="end"),
    ],
    ids=["wait", "events only", "a date that ends when late"],
)
def test_a_loop_with_a_wait_is_fine(slow: plan.Step) -> None:
    compiled(send("a"), slow, branch(when(lead.score > 1, [end("hot")])), go_to("a"))


def test_every_way_round_must_wait() -> None:
    found = one(send("a"), branch(when(lead.score > 1, [wait(days(1))])), go_to("a"))
    assert "a loop without a wait: a → a/branch → a" in found


def test_a_scenario_without_an_end_event_enters_by_created() -> None:
    graph = compile_scenario(Scenario("trial", enters_on=created(), steps=[send("a")]), file=FILE, mails=["a"])
    assert graph.enters_on == (Pattern(event="Lead Created"),)
