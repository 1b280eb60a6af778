"""Step ids: the identity that pinning, counting and migration use (DESIGN §4).

An id never contains a duration, a condition or a position. `send("thanks")` is `thanks`; an unnamed step is called
after the nearest named step before it: `thanks/wait`, or `start/wait` at the very start. Steps inside the paths of a
branch do not count for what follows it: some leads never pass them, and editing a path renames nothing behind it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from mebae import plan

START = "start"
_NAME = re.compile(r"[^\W_][\w.-]*(/[\w.-]+)*")


@dataclass
class Node:
    """A step as written with its id; for `go_to` the target's, for `end` the shared one of its outcome."""

    step: plan.Step
    id: str
    paths: list[list[Node]] = field(default_factory=list)

    @property
    def shown(self) -> str:
        """The id for people: a twin of an id already taken carries a mark until the problem is reported."""
        return self.id.partition("#")[0]


def every(nodes: list[Node]) -> Iterator[Node]:
    """All nodes, depth-first as written."""
    for node in nodes:
        yield node
        for path in node.paths:
            yield from every(path)


def name_steps(steps: plan.Steps, report: Callable[[str | None, str], None]) -> list[Node]:
    """Gives each step its id, and reports the ids that are taken twice or can not be ids, with one that can be."""
    namer = _Namer(report)
    nodes = namer.name(steps, START)
    namer.report_twins(nodes)
    return nodes


def is_name(text: str) -> bool:
    """Whether it can be an id: letters (of any script), digits, hyphens, dots; parts joined by a slash.

    >>> is_name("case-study"), is_name("thanks/second-wait"), is_name("お礼"), is_name("case study"), is_name("")
    (True, True, True, False, False)
    """
    return len(text) <= 100 and _NAME.fullmatch(text) is not None


class _Namer:
    def __init__(self, report: Callable[[str | None, str], None]) -> None:
        self.report = report
        self.taken: dict[str, int] = {}
        self.twins: list[tuple[Node, str]] = []
        self.nameless: list[tuple[Node, str]] = []

    def name(self, steps: plan.Steps, near: str) -> list[Node]:
        nodes = []
        for step in steps:
            node = Node(step, "")
            match step:
                case plan.GoTo():
                    node.id = step.target
                case plan.End():
                    node.id = f"end/{step.outcome}"
                    if not is_name(step.outcome):
                        self.report(
                            None if near == START else near,
                            f'end({step.outcome!r}): write a short name, such as end("sales-told")',
                        )
                case _:
                    node.id = self._claim(node, near)
                    near = near if step.name is None else node.shown
            node.paths = [self.name(path, near) for path in step.paths]
            nodes.append(node)
        return nodes

    def _claim(self, node: Node, near: str) -> str:
        step = node.step
        name = step.name
        if name is not None:
            self._check(step, name)
        elif isinstance(step, plan.Send):
            self.nameless.append((node, near))
        wanted = f"{near}/{step.verb}" if name is None else name
        self.taken[wanted] = self.taken.get(wanted, 0) + 1
        if self.taken[wanted] == 1:
            return wanted
        if not (name is None and isinstance(step, plan.Send)):
            self.twins.append((node, near))
        return f"{wanted}#{self.taken[wanted]}"

    def _check(self, step: plan.Step, name: str) -> None:
        if isinstance(step, plan.Send) and step.id is None and not name.strip():
            self.report("send", 'send(""): the name of the mail is empty')
        elif not is_name(name):
            self.report(name, f'{name!r} can not be an id: write letters, digits and hyphens, such as "case-study"')
        elif name == START or name.startswith("end/"):
            self.report(
                name, f'the id "{name}" is kept for the engine: write another, such as "{name.replace("/", "-")}-1"'
            )

    def report_twins(self, nodes: list[Node]) -> None:
        """Only now, when every id is known that a suggestion must not meet."""
        order = list(every(nodes))
        for _, near in self.nameless:
            idea = self._free(f"{near}/chosen-mail" if near != START else "chosen-mail", near)
            self.report(
                f"{near}/send", f'a mail that is chosen needs a name of its own: write id="{idea}" (or a better one)'
            )
        for node, near in self.twins:
            step = node.step
            if step.name is not None:
                again = self._free(f"{step.name}-again", step.name)
                cure = f'send("{step.name}", id="{again}")' if isinstance(step, plan.Send) else f'id="{again}"'
                self.report(
                    step.name, f"two steps have the id '{step.name}': write {cure} for the second (or a better one)"
                )
                continue
            verb = step.verb.replace("_", "-")
            later = order[next(at for at, one in enumerate(order) if one is node) + 1 :]
            coming = next((one.step.name for one in later if one.step.name), None)
            base = "" if near == START else f"{near}/"
            idea = self._free(f"{base}{verb}-before-{coming}" if coming else f"{base}last-{verb}", near)
            self.report(
                node.shown,
                f'another unnamed {step.verb} would get the same id: write id="{idea}" for it (or a better one)',
            )

    def _free(self, idea: str, near: str) -> str:
        while idea in self.taken:
            idea += "-too"
        self.taken[idea] = 1
        return idea
