"""What can be said of a template before any lead meets it: broken syntax, and names, filters and blocks that are none."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from jinja2 import TemplateSyntaxError, meta, nodes
from jinja2.sandbox import SandboxedEnvironment

from mebae.errors import did_you_mean
from mebae.mail.filters import FILTERS
from mebae.mail.templating import BrokenMail, sandbox
from mebae.mail.values import FIELDS
from mebae.references import STANDARD

NAMES = (
    "lead", "company", "entry", "scenario", "sender", "unsubscribe_url", "preferences_url", "view_url", "language",
    "time_zone", "now", "piece", "related",
)  # fmt: skip
"""What a mail may name."""
PAGE_NAMES = (*NAMES, "subject", "preheader", "footer")
"""What a whole page may name: a layout, which has `body` too, or an HTML or MJML mail."""
_KNOWN = {
    "line": (*NAMES, "range"),
    "markdown": (*NAMES, "range", "block"),
    "text": (*NAMES, "range", "block"),
    "block": (*NAMES, "range", "block", "given"),
    "html": (*PAGE_NAMES, "range", "block"),
    "layout": (*PAGE_NAMES, "body", "range", "block"),
}
"""What may be named in each kind of text."""
_SANDBOX_OF = {"block": "markdown", "layout": "html"}


_NOT_HERE: dict[type[nodes.Node], str] = {
    nodes.Include: 'write {{ block("name") }} for a text that mails share, in scenarios/blocks/name.ja.md',
    nodes.Import: 'write {{ block("name") }} for a text that mails share, in scenarios/blocks/name.ja.md',
    nodes.FromImport: 'write {{ block("name") }} for a text that mails share, in scenarios/blocks/name.ja.md',
    nodes.Extends: "a mail names its layout in the front matter: layout: name",
    nodes.Block: 'write {{ block("name") }} for a text that mails share, in scenarios/blocks/name.ja.md',
    nodes.ScopedEvalContextModifier: "escaping can not be turned off: what a lead typed would become part of the page",
}


def check_template(kind: str, source: str, where: str, line: int = 1) -> tuple[tuple[str, int], ...]:
    """Refuses broken syntax, unknown filters and unknown names, before any lead meets them: all of them at once.

    Args:
        kind: `markdown`, `text`, `html`, `layout`, `block` or `line`.
        line: the line of the file that the source begins on.

    Returns:
        the blocks that it shows, each with the line; what is raised has them as `so_far`.
    """
    here = sandbox(_SANDBOX_OF.get(kind, kind))
    slips: list[tuple[int, str]] = []
    blocks: list[tuple[str, int]] = []
    try:
        tree = here.parse(source)
        slips += _filters(tree, here)
        slips += _names(tree, here, source, kind)
        slips += _attributes(tree)
        slips += [(found.lineno, instead) for other, instead in _NOT_HERE.items() if (found := next(tree.find_all(other), None))]
        for name, number in _blocks_of(tree):
            if name is None:
                slips.append((number, _UNNAMED))
            else:
                blocks.append((name, number + line - 1))
        if not slips:
            here.from_string(source)
    except TemplateSyntaxError as error:
        slips.append((error.lineno, error.message or "syntax error"))
    if slips:
        order = sorted(dict.fromkeys(slips), key=lambda slip: slip[0])
        raise BrokenMail.of([f"{where}, line {number + line - 1}: {what}" for number, what in order], tuple(blocks))
    return tuple(blocks)


_UNNAMED = 'name the block in quotes, as in {{ block("signature") }}; choose with {% if … %} around it'


def _filters(tree: nodes.Template, here: SandboxedEnvironment) -> Iterator[tuple[int, str]]:
    for used in tree.find_all(nodes.Filter):
        if used.name not in here.filters:
            near = did_you_mean(used.name, FILTERS)
            near = near if near.startswith(", did") else did_you_mean(used.name, here.filters)
            near = near if near.startswith(", did") else f"; ours: {', '.join(sorted(FILTERS))}"
            yield used.lineno, f"there is no filter '{used.name}'{near}"


def _names(tree: nodes.Template, here: SandboxedEnvironment, source: str, kind: str) -> Iterator[tuple[int, str]]:
    for used in tree.find_all(nodes.Filter):
        if used.name not in here.filters:  # that is told already; no tree with such a one can be looked through for names
            used.name = "upper"
    for name in sorted(meta.find_undeclared_variables(tree)):
        if name not in _KNOWN[kind]:
            yield _line_of(name, source), f"'{name}' is unknown{did_you_mean(name, _KNOWN[kind])}"


def _attributes(tree: nodes.Template) -> Iterator[tuple[int, str]]:
    for part in tree.find_all(nodes.Getattr):
        # Any other name is an attribute of the user's own; one that is nearly a standard name is a slip.
        if isinstance(part.node, nodes.Name) and part.node.name == "lead" and part.attr not in STANDARD:
            near = difflib.get_close_matches(part.attr, STANDARD, n=1, cutoff=0.8)
            if near:
                yield part.lineno, (
                    f"'lead.{part.attr}' is no standard attribute, "
                    f"did you mean 'lead.{near[0]}'? If it is one of your own, write lead['{part.attr}']"
                )
        elif isinstance(part.node, nodes.Name) and part.node.name in ("company", "sender"):
            fields = FIELDS[part.node.name]
            if part.attr not in fields:
                yield part.lineno, f"'{part.node.name}.{part.attr}' is unknown{did_you_mean(part.attr, fields)}"


def _blocks_of(tree: nodes.Template) -> Iterator[tuple[str | None, int]]:
    """The blocks that are shown, each with its line; None for one that is not named in quotes."""
    calls = {
        id(call.node): call
        for call in tree.find_all(nodes.Call)
        if isinstance(call.node, nodes.Name) and call.node.name == "block"
    }
    for name in tree.find_all(nodes.Name):
        if name.name != "block" or name.ctx != "load":
            continue
        call = calls.get(id(name))
        written = call.args[0] if call is not None and len(call.args) == 1 else None
        is_named = isinstance(written, nodes.Const) and isinstance(written.value, str)
        yield (written.value if is_named else None), name.lineno  # type: ignore[union-attr]


def _line_of(name: str, source: str) -> int:
    found = re.search(rf"\b{re.escape(name)}\b", source)
    return source.count("\n", 0, found.start()) + 1 if found else 1
