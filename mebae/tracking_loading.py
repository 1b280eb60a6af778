"""Reads `scenarios/events.py`, the tracking plan."""

from __future__ import annotations

from pathlib import Path

from mebae import tracking_language
from mebae.errors import Problem, ScenarioError
from mebae.events import canonical
from mebae.pyfile import place, read_object, reporter
from mebae.tracking import STANDARD, PlannedEvent, TrackingPlan
from mebae.tracking_language import Plan

EVENTS_FILE = "events.py"


def load_plan(home: Path) -> TrackingPlan | None:
    """The tracking plan of a `scenarios` folder; None if there is no `events.py`.

    Raises `ScenarioError` with every problem of it.
    """
    path = Path(home).resolve() / EVENTS_FILE
    if not path.is_file():
        return None
    problems: list[Problem] = []
    plan = read_object(
        path, Plan, tracking_language.__all__, reporter(path, problems),
        what="tracking plan", write="plan = Plan(events=[event(…), …])", several="keep one",
    )  # fmt: skip
    if plan is not None:
        compiled = compile_plan(plan, place(path), problems)
        if not problems:
            return compiled
    raise ScenarioError(problems)


def compile_plan(plan: Plan, file: str, problems: list[Problem]) -> TrackingPlan:
    """The plan, checked; what is wrong with it is added to `problems`, with its event in the place of a step."""
    own = tuple(plan.events)
    names = [event.name for event in own]
    for event in own:
        problems.extend(Problem(file=file, step=event.name, message=message) for message in _wrong(event))
    problems.extend(
        Problem(file=file, step=name, message=f"the event is there {names.count(name)} times")
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    )
    return TrackingPlan(own, named=file)


def _wrong(event: PlannedEvent) -> list[str]:
    found = []
    real = canonical(event.name)
    if real != event.name:
        found.append(f"it is stored as '{real}', of which this is an alias: write event(\"{real}\", …)")
    for key, its in event.properties.items():
        standard = STANDARD[event.name].properties.get(key) if event.name in STANDARD else None
        if standard is not None and its.kind not in (standard.kind, "one_of"):
            found.append(f"its '{key}' is {standard.kind} always: write {standard.kind}() or one_of(…)")
        if standard is not None and standard.kind == "text" and not all(isinstance(one, str) for one in its.values):
            found.append(f"its '{key}' is text always: write the values in quotes")
        twice = (value for value in dict.fromkeys(its.values) if its.values.count(value) > 1)
        found += [f"its '{key}' names {value!r} twice" for value in twice]
        if not key.strip() or key != key.strip():
            found.append(f"a property is called {key!r}: it needs a name, without spaces around it")
    return found
