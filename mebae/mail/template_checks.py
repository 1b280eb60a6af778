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
    """Refuses broken syntax, unknown filters and unknown names, before any lead meets them.

    Args:
        kind: `markdown`, `text`, `html`, `layout`, `block` or `line`.
        line: the line of the file that the source begins on.

    Returns:
        the blocks that it shows, each with the line.
    """
    here = sandbox(_SANDBOX_OF.get(kind, kind))
    first = line - 1
    try:
        tree = here.parse(source)
        _check_filters(tree, here, where, first)
        here.from_string(source)
        unknown = sorted(meta.find_undeclared_variables(tree))
    except TemplateSyntaxError as error:
        raise BrokenMail(f"{where}, line {error.lineno + first}: {error.message}") from None
    for name in unknown:
        if name not in _KNOWN[kind]:
            raise BrokenMail(
                f"{where}, line {_line_of(name, source) + first}: '{name}' is unknown{did_you_mean(name, _KNOWN[kind])}"
            )
    for part in tree.find_all(nodes.Getattr):
        # Any other name is an attribute of the user's own; one that is nearly a standard name is a slip.
        if isinstance(part.node, nodes.Name) and part.node.name == "lead" and part.attr not in STANDARD:
            near = difflib.get_close_matches(part.attr, STANDARD, n=1, cutoff=0.8)
            if near:
                raise BrokenMail(
                    f"{where}, line {part.lineno + first}: 'lead.{part.attr}' is no standard attribute, "
                    f"did you mean 'lead.{near[0]}'? If it is one of your own, write lead['{part.attr}']"
                )
        elif isinstance(part.node, nodes.Name) and part.node.name in ("company", "sender"):
            fields = FIELDS[part.node.name]
            if part.attr not in fields:
                raise BrokenMail(
                    f"{where}, line {part.lineno + first}: '{part.node.name}.{part.attr}' is unknown"
                    f"{did_you_mean(part.attr, fields)}"
                )
    for other, instead in _NOT_HERE.items():
        if found := next(tree.find_all(other), None):
            raise BrokenMail(f"{where}, line {found.lineno + first}: {instead}")
    return tuple((name, number + first) for name, number in _blocks_of(tree, where, first))


def _check_filters(tree: nodes.Template, here: SandboxedEnvironment, where: str, first: int) -> None:
    for used in tree.find_all(nodes.Filter):
        if used.name not in here.filters:
            near = did_you_mean(used.name, FILTERS)
            near = near if near.startswith(", did") else did_you_mean(used.name, here.filters)
            near = near if near.startswith(", did") else f"; ours: {', '.join(sorted(FILTERS))}"
            raise BrokenMail(f"{where}, line {used.lineno + first}: there is no filter '{used.name}'{near}")


def _blocks_of(tree: nodes.Template, where: str, first: int) -> Iterator[tuple[str, int]]:
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
        if not isinstance(written, nodes.Const) or not isinstance(written.value, str):
            raise BrokenMail(
                f'{where}, line {name.lineno + first}: name the block in quotes, as in {{{{ block("signature") }}}}; '
                "choose with {% if … %} around it"
            )
        yield written.value, name.lineno


def _line_of(name: str, source: str) -> int:
    found = re.search(rf"\b{re.escape(name)}\b", source)
    return source.count("\n", 0, found.start()) + 1 if found else 1
