"""From a scenario as written to its graph; or to every problem that it has, all at once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from typing import Any

from mebae import graph, plan
from mebae.checking import Checker
from mebae.conditions import Condition, Pattern
from mebae.errors import ScenarioError, did_you_mean
from mebae.events import BY_NAME
from mebae.hashed import canonical_json
from mebae.naming import Node, every, is_name, name_steps
from mebae.references import Ref
from mebae.timing import Duration
from mebae.vocabulary import Vocabulary

COMPLETED = "end/completed"
"""Where a path goes that runs off the end of the scenario."""

_EARLIER: dict[str, tuple[str, ...]] = {
    "accepted": ("sql", "opportunity", "won", "lost"),
    "sql": ("opportunity", "won", "lost"),
    "opportunity": ("won", "lost"),
}
"""Outcomes that are not the last, and those that come after them."""

_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def compile_scenario(
    scenario: plan.Plan,
    *,
    file: str,
    mails: Collection[str] | None,
    activities: Collection[str] | None = None,
    scenarios: Collection[str] | None = None,
    known: Vocabulary | None = None,
) -> graph.Graph:
    """The graph of a scenario.

    `file` is what problems are reported under. `mails` are the ids of the mails beside it, `activities` the names that
    `run` may call, `scenarios` the ids that `enroll` may name; None leaves that unchecked. `known` are the words of the
    scoring model, the segments and the tracking plan; without it the stages are the default ones.

    Raises `ScenarioError` with every problem, each with its file and step, and the nearest right name.
    """
    return _Compiler(scenario, file, mails, activities, scenarios, known).compile()


def trigger_id(step: str, what: Pattern | Condition) -> str:
    """The id of what a step listens for: the step's id and the hash of the pattern or condition.

    >>> trigger_id("thanks/wait_for", Pattern(event="Page Viewed", where={"path": "/pricing"}))
    'thanks/wait_for:e5332e57'
    """
    return f"{step}:{hashlib.sha256(canonical_json(what).encode()).hexdigest()[:8]}"


class _Compiler:
    def __init__(
        self,
        scenario: plan.Plan,
        file: str,
        mails: Collection[str] | None,
        activities: Collection[str] | None,
        scenarios: Collection[str] | None,
        known: Vocabulary | None,
    ) -> None:
        self.scenario = scenario
        self.check = Checker(file, mails, known)
        self.check.starts = scenario.enters_on
        self.report = self.check.report
        self.activities = activities
        self.scenarios = scenarios
        self.nodes = name_steps(scenario.steps, self.report)
        self.steps: dict[str, graph.Step] = {}
        sends: dict[str, tuple[str, ...]] = {}
        for node in every(self.nodes):
            if isinstance(node.step, plan.Send):
                sends[node.shown] = tuple(dict.fromkeys((*sends.get(node.shown, ()), *node.step.mails)))
        self.check.sends = sends
        self.ids = [node.id for node in every(self.nodes) if not isinstance(node.step, (plan.GoTo, plan.End))]

    def compile(self) -> graph.Graph:
        head = self._head()
        if not self.scenario.steps:
            self.report(None, 'a scenario needs steps: write steps=[send("…"), …]')
        self._emit(self.nodes, COMPLETED, None)
        start = _first(self.nodes, COMPLETED)
        if start == COMPLETED or any(COMPLETED in graph.targets(step) for step in self.steps.values()):
            self.steps.setdefault(COMPLETED, graph.End(id=COMPLETED, outcome="completed"))
        self._report_unreachable(self.nodes, self._reachable(start))
        self._report_loops()
        if self.check.problems:
            raise ScenarioError(self.check.problems)
        steps = tuple(self.steps.values())
        newest = any(isinstance(step, graph.WITH_SALES) or _is_new(step) for step in steps)
        return graph.Graph(**head, format=graph.FORMAT if newest else 1, start=start, steps=steps)

    # -- what stands before the steps

    def _head(self) -> dict[str, Any]:
        scenario = self.scenario
        if not _SLUG.fullmatch(scenario.id):
            self.report(
                None,
                f'Scenario({scenario.id!r}): the id is lower-case words joined by hyphens, such as "trial-follow-up"',
            )
        return {
            "scenario": scenario.id,
            "title": scenario.title,
            "enters_on": tuple(self.check.pattern(pattern, None) for pattern in scenario.enters_on),
            "key": self._key(),
            "audience": self._optional(scenario.audience, "audience"),
            "exits_when": self._optional(scenario.exits_when, "exits_when"),
            "re_enter": self._re_enter(),
            "starts_at_most": self._starts_at_most(),
        }

    def _key(self) -> str | None:
        key = self.scenario.key
        if key is None:
            return None
        if isinstance(key, Ref) and key.ref.startswith("entry."):
            self.check.ref(key.ref, None, "key: ")
            return key.ref
        near = f"entry.{key}" if isinstance(key, str) and key.isidentifier() else "entry.content"
        self.report(None, f"key={key!r}: a key is a property of the start event: write key={near}")
        return None

    def _re_enter(self) -> Any:
        value = self.scenario.re_enter
        if isinstance(value, plan.After):
            self.check.span(value.span, None, "re_enter=after(…)")
            return value.span
        if value not in ("never", "always"):
            self.report(None, f're_enter="{value}" means nothing: write "never", "always" or after(days(30))')
            return "never"
        return value

    def _starts_at_most(self) -> graph.PerDay | None:
        most = self.scenario.starts_at_most
        if most is None:
            return None
        if most.count < 1:
            self.report(None, f"starts_at_most=per_day({most.count}): write a number from 1")
            return None
        return graph.PerDay(count=most.count)

    def _optional(self, condition: Condition | None, word: str) -> Condition | None:
        return None if condition is None else self.check.condition(condition, None, f"{word}: ")

    # -- the steps, linked

    def _emit(self, nodes: list[Node], after: str, owner: str | None) -> None:
        """Puts the steps into the graph, depth-first as written; a path that does not end goes on at `after`."""
        for at, node in enumerate(nodes):
            following = _first(nodes[at + 1 :], after)
            if isinstance(node.step, plan.GoTo):
                self._check_target(node.step.target, owner)
                continue
            self.steps.setdefault(node.id, self._step(node, following))
            for path in node.paths:
                self._emit(path, following, node.id)
            owner = node.id

    def _check_target(self, target: str, near: str | None) -> None:
        if target.startswith("end/"):
            self.report(near, f'go_to("{target}"): to end, write end("{target.removeprefix("end/")}")')
        elif target not in self.ids:
            self.report(near, f'go_to("{target}"): there is no such step{did_you_mean(target, self._known_ids())}')

    def _known_ids(self) -> list[str]:
        return [id for id in self.ids if "#" not in id]

    def _step(self, node: Node, after: str) -> graph.Step:
        id, step = node.id, node.step
        to = [_first(path, after) for path in node.paths]
        match step:
            case plan.Send():
                self._check_mails(step, id)
                return graph.Send(id=id, mail=step.mail, on_cap=step.on_cap, nothing=to[0] if to else None, next=after)
            case plan.Wait():
                span = self.check.span(step.span, id, "wait(…)")
                return graph.Wait(id=id, span=span, at=self.check.time(step.at, id), business=step.business, next=after)
            case plan.WaitUntil():
                self.check.ref(step.date, id)
                if step.plus is not None and step.minus is not None:
                    self.report(id, "wait_until has both plus= and minus=: write one of them")
                plus = None if step.plus is None else self.check.span(step.plus, id, "plus=")
                minus = None if step.minus is None else self.check.span(step.minus, id, "minus=")
                return graph.WaitUntil(
                    id=id,
                    date=step.date,
                    plus=plus,
                    minus=minus,
                    at=self.check.time(step.at, id),
                    on_late=step.on_late,
                    next=after,
                )
            case plan.WaitFor():
                return self._wait_for(step, id, to)
            case plan.Branch():
                if not step.cases:
                    self.report(id, "branch has no case: write branch(when(condition, […]), otherwise=[…])")
                cases = (
                    graph.Case(when=self.check.condition(case.condition, id), to=path)
                    for case, path in zip(step.cases, to, strict=False)
                )
                return graph.Branch(id=id, cases=tuple(cases), otherwise=to[-1])
            case plan.Split():
                self._check_shares(step, id)
                shares = (
                    graph.Share(name=share.name, percent=share.percent, to=path)
                    for share, path in zip(step.shares, to, strict=True)
                )
                return graph.Split(id=id, shares=tuple(shares))
            case plan.SetLead():
                if not step.values:
                    self.report(id, 'set_lead() sets nothing: write set_lead(plan="trial")')
                for name, value in step.values.items():
                    self.check.ref(f"lead.{name}", id)
                    self.check.value(f"lead.{name}", value, id)
                return graph.SetLead(id=id, values=dict(step.values), next=after)
            case plan.Tag():
                self._check_tags(step, id)
                return graph.Tag(id=id, add=step.add, remove=step.remove, next=after)
            case plan.NotifySales():
                return graph.NotifySales(id=id, message=step.message, next=after)
            case plan.HandToSales() | plan.CallTask():
                return self._with_sales(node, step, to, after)
            case plan.Enroll():
                self._check_known("enroll", "scenario", step.scenario, self.scenarios, id)
                return graph.Enroll(id=id, scenario=step.scenario, next=after)
            case plan.Run():
                self._check_known("run", "activity", step.activity, self.activities, id)
                return graph.Run(id=id, activity=step.activity, args=dict(step.args), next=after)
            case plan.End():
                return graph.End(id=id, outcome=step.outcome)
        raise AssertionError(f"no graph for {step!r}")

    def _wait_for(self, step: plan.WaitFor, id: str, to: list[str]) -> graph.WaitFor:
        if not step.arms:
            self.report(
                id, "wait_for listens for nothing: write on(event, […]) or when(condition, […]), or use wait(…)"
            )
        if step.within is None:
            self.report(id, "wait_for has no limit: write within=days(7); no journey waits for ever")
        within = Duration(days=1) if step.within is None else self.check.span(step.within, id, "within=")
        arms: list[graph.Arm] = []
        for arm, path in zip(step.arms, to, strict=False):
            if isinstance(arm, plan.When):
                when = self.check.condition(arm.condition, id)
                made = graph.Arm(id=trigger_id(id, when), when=when, to=path)
            else:
                on = self.check.pattern(arm.event, id, awaited=True)
                made = graph.Arm(
                    id=trigger_id(id, on), on=on, mail=self.check.mail_step(arm.event), form=_form(on), to=path
                )
            if any(made.id == other.id for other in arms):
                self.report(
                    id, "wait_for listens for the same thing twice: the second path can never be taken; remove it"
                )
            arms.append(made)
        return graph.WaitFor(id=id, arms=tuple(arms), within=within, otherwise=to[-1])

    def _with_sales(
        self, node: Node, step: plan.HandToSales | plan.CallTask, to: list[str], after: str
    ) -> graph.HandToSales | graph.CallTask:
        id = node.id
        if not step.message.strip():
            self.report(id, f'{step.verb}(""): sales wants to know why: write {step.verb}("料金ページを閲覧")')
        paths = tuple(graph.Path(outcome=outcome, to=path) for (outcome, _), path in zip(step.outcomes, to, strict=True))
        known = {
            "id": id, "message": step.message, "paths": paths, "next": after,
            "inside": tuple(one.id for path in node.paths for one in every(path) if not isinstance(one.step, (plan.GoTo, plan.End))),
        }  # fmt: skip
        if isinstance(step, plan.CallTask):
            within = self.check.span(step.within, id, "within=")
            due = None if step.due is None else self.check.span(step.due, id, "due=")
            return graph.CallTask(**known, method=step.method, script=step.script, due=due, within=within)
        for at, (outcome, _) in enumerate(step.outcomes):
            if outcome in _EARLIER and not any(isinstance(one.step, plan.GoTo) and one.id == id for one in every(node.paths[at])):
                self._report_hidden(id, outcome, [other for other, _ in step.outcomes])
        return graph.HandToSales(**known, within=None if step.within is None else self.check.span(step.within, id, "within="))

    def _report_hidden(self, id: str, outcome: str, given: list[str]) -> None:
        """A path that opens early keeps those of what comes later from ever being taken."""
        hidden = [f"{other}=" for other in given if other in _EARLIER[outcome]]
        if hidden:
            self.report(
                id, f"{outcome}= ends this step, so {' and '.join(hidden)} can never be taken: end the path of {outcome}= with "
                f'go_to("{id}"), which waits on',
            )  # fmt: skip

    # -- values of single steps

    def _check_mails(self, step: plan.Send, id: str) -> None:
        if isinstance(step.mail, graph.Choice):
            self.check.ref(step.mail.ref, id, "choose(…): ")
            for value in step.mail.of:
                self.check.value(step.mail.ref, value, id, "choose(…): ")
        if isinstance(step.mail, graph.Series):
            for mail in sorted({mail for mail in step.mail.series if step.mail.series.count(mail) > 1}):
                self.report(id, f"the series holds '{mail}' twice: each mail of it is sent once")
        if isinstance(step.mail, graph.About):
            self._check_about(step.mail, id)
        for mail in step.mails:
            if not is_name(mail) or "/" in mail:
                if step.name != mail:
                    self.report(id, f"{mail!r} can not be a mail's name: write letters, digits and hyphens")
            elif self.check.mails is not None and mail not in self.check.mails:
                near = did_you_mean(mail, self.check.mails) or f": put {mail}.ja.md beside the scenario"
                self.report(id, f"mail '{mail}' not found{near}")

    def _check_about(self, about: graph.About, id: str) -> None:
        if about.stage is not None:
            self.check.value("lead.stage", about.stage, id, "send_next(…, stage=…): ")
        for topic in about.topics:
            self.check.value("lead.topics", topic, id, "send_next(…, topic=…): ")
        if self.check.known.pieces is not None and not self.check.known.pieces:
            self.report(id, f"send_next(mail='{about.about}') needs a catalogue: write scenarios/content.py with pieces = [piece(…)]")

    def _check_shares(self, step: plan.Split, id: str) -> None:
        names = [share.name for share in step.shares]
        if len(names) < 2:
            self.report(id, 'split needs two parts at least: write split(share("a", 50, […]), share("b", 50, […]))')
        for name in names:
            if not is_name(name):
                self.report(id, f'share({name!r}, …): write a short name, such as share("holdout", 10)')
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.report(id, f"split has two parts named '{name}': give each its own name")
        percents = [share.percent for share in step.shares]
        if any(not 0 <= percent <= 100 for percent in percents):
            self.report(id, "a percentage of split is between 0 and 100")
        elif names and abs(sum(percents) - 100) > 1e-6:
            written = " + ".join(f"{percent:g}" for percent in percents)
            self.report(id, f"the percentages of split add up to 100, not to {written} = {sum(percents):g}")

    def _check_tags(self, step: plan.Tag, id: str) -> None:
        if not step.add and not step.remove:
            self.report(id, 'tag() changes nothing: write tag("hot") or tag(remove=["cold"])')
        if any(not tag.strip() for tag in (*step.add, *step.remove)):
            self.report(id, "a tag is empty: write a word")
        for tag in step.add:
            if tag in step.remove:
                self.report(id, f"tag '{tag}' is both added and removed: leave out one of them")

    def _check_known(self, verb: str, what: str, name: str, known: Collection[str] | None, id: str) -> None:
        if not name.strip():
            self.report(id, f'{verb}(""): write the name of the {what}')
        elif known is not None and name not in known:
            self.report(id, f"{what} '{name}' not found{did_you_mean(name, known)}")

    # -- the shape of the whole

    def _reachable(self, start: str) -> set[str]:
        seen: set[str] = set()
        ahead = [start]
        while ahead:
            id = ahead.pop()
            if id not in seen and id in self.steps:
                seen.add(id)
                ahead.extend(graph.targets(self.steps[id]))
        return seen

    def _report_unreachable(self, nodes: list[Node], reached: set[str]) -> None:
        """Reports the first step of each stretch that nothing leads to; what stands behind it follows from that."""
        before: Node | None = None
        lost = False
        for node in nodes:
            if isinstance(node.step, (plan.GoTo, plan.End)):
                unreachable = lost or (before is not None and isinstance(before.step, (plan.GoTo, plan.End)))
            else:
                unreachable = node.id not in reached
            if unreachable and not lost:
                verb = before.step.verb if before is not None else ""
                after = (
                    f"it stands after {verb}(…)"
                    if verb in ("go_to", "end")
                    else "every path before it ends or goes elsewhere"
                )
                wordless = isinstance(node.step, (plan.GoTo, plan.End))
                shown = (before.shown if before else None) if wordless else node.id
                what = f"{node.step.verb}(…) " if wordless else ""
                self.report(shown, f"{what}can never be reached: {after}")
            lost = unreachable
            if not unreachable:
                for path in node.paths:
                    self._report_unreachable(path, reached)
            before = node

    def _report_loops(self) -> None:
        """A loop that nothing slows down would send for ever, within a second."""
        ahead = {
            id: [to for to in graph.targets(step) if to in self.steps]
            for id, step in self.steps.items()
            if not _slows(step)
        }
        told: set[str] = set()
        for id in ahead:
            if id in told or (loop := _loop(id, ahead)) is None:
                continue
            told.update(loop)
            way = " → ".join(one.partition("#")[0] for one in [*loop, id])
            self.report(id, f"a loop without a wait: {way}; put a wait(…), or a wait_for of events only, into it")


def _first(nodes: list[Node], after: str) -> str:
    """Where a list of steps begins; an empty one is what comes after it."""
    return nodes[0].id if nodes else after


def _is_new(step: graph.Step) -> bool:
    """Whether yesterday's code could not read it."""
    return isinstance(step, graph.Send) and isinstance(step.mail, graph.Series | graph.About)


def _slows(step: graph.Step) -> bool:
    """Whether a loop through this step takes time each time round.

    A date that is past passes at once, and a condition may be true already: these slow down nothing.
    """
    match step:
        case graph.Wait():
            return True
        case graph.WaitUntil():
            return step.on_late == "end"
        case graph.HandToSales() | graph.CallTask():
            return True  # a person must answer
        case graph.WaitFor():
            return all(arm.on is not None for arm in step.arms)
        case _:
            return False


def _loop(start: str, ahead: dict[str, list[str]]) -> list[str] | None:
    """The shortest way from a step back to itself, if there is one."""
    came: dict[str, str] = {}
    queue = [start]
    for id in queue:
        for to in ahead.get(id, ()):
            if to == start:
                way = [id]
                while way[-1] != start:
                    way.append(came[way[-1]])
                return way[::-1]
            if to not in came:
                came[to] = id
                queue.append(to)
    return None


def _form(pattern: Pattern) -> str | None:
    spec = BY_NAME.get(pattern.event)
    if spec is None or spec.names != "form" or spec.property is None:
        return None
    form = pattern.where.get(spec.property)
    return form if isinstance(form, str) and "*" not in form else None
