"""The Jinja sandbox that mails and layouts are filled in with, and what a marketer may write in it.

Authors are trusted with words, not with the machine: no Python attributes, no endless loops or output. What a
lead typed into a form is trusted with nothing: every value is escaped for the place it lands in, so that a name like
`*x* <script>` arrives as it was typed. A value that is missing never becomes an empty gap in somebody's salutation:
printing it fails, asking for it (`{% if lead.company %}`) is false, and `default_to` gives the words instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache, lru_cache
from typing import Any, Self

from jinja2 import (
    StrictUndefined,
    Template,
    TemplateError,
    TemplateSyntaxError,
    Undefined,
    UndefinedError,
    nodes,
    pass_context,
)
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment
from markupsafe import Markup

from mebae.errors import MailInvalid, did_you_mean
from mebae.mail.filters import FILTERS
from mebae.mail.markdown import escape_markdown, shown
from mebae.mail.slots import RECORDER, Unsafe, is_private
from mebae.mail.values import Bag

OUTPUT_LIMIT = 500_000
"""Characters that one mail may render to. Mail clients cut mails off far below this."""
_RANGE_LIMIT = 1_000

_BLOCKS, _DEPTH = " blocks", " depth"
"""Names of ours among a template's values. No template can write them."""
_DEEPEST = 10

NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""Characters that no page can hold."""
_JINJA = re.compile(r"\{[{%#]|\r")
_REREAD = (
    nodes.CallBlock, nodes.FilterBlock, nodes.Block, nodes.Extends, nodes.Include, nodes.Import, nodes.FromImport,
    nodes.ScopedEvalContextModifier,
)  # fmt: skip


class BrokenMail(MailInvalid):
    """A mail that cannot be rendered. The message is the code; `detail` says what and where, for people. `others`: what else is
    wrong with it, likewise, as far as one could look; `so_far`: what of it could be read (of a mail its `MailSource`)."""

    def __init__(self, detail: str, code: str | None = None, *, others: tuple[str, ...] = (), so_far: Any = None) -> None:
        super().__init__(code)
        self.detail, self.others, self.so_far = detail, others, so_far

    @property
    def all(self) -> tuple[str, ...]:
        """Everything that is wrong."""
        return (self.detail, *self.others)

    @classmethod
    def of(cls, details: Sequence[str], so_far: Any = None) -> Self:
        """The error of several slips."""
        return cls(details[0], others=tuple(details[1:]), so_far=so_far)


@dataclass(frozen=True)
class Block:
    """A text that mails share, in one language."""

    where: str
    source: str


@dataclass(frozen=True)
class Blocks:
    """The blocks that one mail may use, and how their Markdown becomes HTML there."""

    of: Mapping[str, Block]
    as_html: Callable[[str], str]
    as_text: Callable[[str], str]

    def filled(self, name: str, values: Mapping[str, Any], given: Mapping[str, Any]) -> str:
        """A block's Markdown, its values filled in."""
        block = self.of.get(name)
        if block is None:
            raise BrokenMail(f"block '{name}' was never published{did_you_mean(name, self.of)}", "block-missing")
        depth = values.get(_DEPTH, 0) + 1
        if depth > _DEEPEST:
            raise BrokenMail(f"{block.where}: blocks show each other in a ring")
        seen = {**values, _DEPTH: depth, "given": Bag("given", given)}
        return fill("markdown", block.source, seen, block.where).strip("\n")


@pass_context
def _block(context: Context, name: str, **given: Any) -> Markup:
    """`{{ block("signature") }}`: Markdown in a Markdown mail, HTML in a page, words in a text mail."""
    blocks: Blocks = context[_BLOCKS]
    markdown = blocks.filled(name, context.parent, given)
    kind = getattr(context.environment, "kind", "")
    if kind == "html":
        markdown = blocks.as_html(markdown)
    elif kind == "text":
        markdown = blocks.as_text(markdown)
    return Markup(markdown)  # noqa: S704


def with_blocks(seen: Mapping[str, Any], blocks: Blocks) -> dict[str, Any]:
    """The values that a template sees, blocks among them."""
    return {**seen, _BLOCKS: blocks}


def filled_block(name: str, seen: Mapping[str, Any]) -> str:
    """A block's Markdown."""
    blocks: Blocks = seen[_BLOCKS]
    return blocks.filled(name, seen, {})


def footer(seen: Mapping[str, Any]) -> Markup:
    """What the law wants at a mail's end, for a page: the block `footer`."""
    blocks: Blocks = seen[_BLOCKS]
    return Markup(blocks.as_html(filled_block("footer", seen)))  # noqa: S704


class _Sandbox(SandboxedEnvironment):
    """Sandboxed, strict, and small: what could hang or fill the worker is refused."""

    intercepted_binops = frozenset(("*", "**", "%"))

    def __init__(self, kind: str, finalize: Callable[..., Any], *, autoescape: bool) -> None:
        self.kind = kind
        super().__init__(
            undefined=StrictUndefined, autoescape=autoescape, finalize=finalize, keep_trailing_newline=True,
            trim_blocks=True, lstrip_blocks=True, auto_reload=False, cache_size=0,
        )  # fmt: skip
        self.globals = {"range": _range} if kind == "line" else {"range": _range, "block": _block}
        for name in ("safe", "e", "escape", "forceescape", "urlize", "xmlattr", "tojson", "pprint", "center", "format"):
            self.filters.pop(name, None)
        self.filters |= FILTERS

    def getattr(self, obj: Any, attribute: str) -> Any:
        return obj.look(attribute) if isinstance(obj, Bag) else super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        return obj.look(argument) if isinstance(obj, Bag) else super().getitem(obj, argument)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if not all(isinstance(side, int | float | Decimal) for side in (left, right)) or operator == "**":
            raise SecurityError(f"'{operator}' works on numbers only here")
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> Any:
        if super().wrap_str_format(value) is not None:
            raise SecurityError("'format' is not available here; write the values into the text")
        return None

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        # Padding methods make any length of text out of a few characters.
        if isinstance(obj, str) and attr in ("center", "ljust", "rjust", "zfill", "expandtabs"):
            return False
        return super().is_safe_attribute(obj, attr, value)


def _range(*args: int) -> range:
    numbers = range(*args)
    if len(numbers) > _RANGE_LIMIT:
        raise OverflowError(f"a range of more than {_RANGE_LIMIT}")
    return numbers


def _words(value: Any) -> str:
    """A value as text, if it is one."""
    if isinstance(value, Undefined):
        return str(value)  # raises, naming it
    if value is None:
        raise UndefinedError("an empty value cannot be shown: use default_to")
    if not isinstance(value, str | int | float | Decimal | date):
        raise UndefinedError(
            f"a {'group of values' if isinstance(value, Bag) else type(value).__name__} cannot be shown as text"
        )
    return str(value)


@pass_context
def _for_markdown(context: Context, value: Any) -> Any:
    # `Markup` marks what has been escaped already (a macro, a block set), so that it is not escaped twice.
    if isinstance(value, Markup):
        return value
    recorder = context.get(RECORDER)
    return Markup(escape_markdown(_words(value))) if recorder is None else recorder.in_markdown(_words(value))  # noqa: S704


@pass_context
def _for_html(context: Context, value: Any) -> Any:
    if isinstance(value, Markup):
        return value
    # What XML cannot hold breaks the page's readers.
    words = NO_TEXT.sub(" ", _words(value))
    recorder = context.get(RECORDER)
    return words if recorder is None else recorder.in_html(words)


def _for_text(value: Any) -> Any:
    return value if isinstance(value, Markup) else shown(_words(value))


@cache
def sandbox(kind: str) -> _Sandbox:
    match kind:
        case "markdown":
            return _Sandbox(kind, _for_markdown, autoescape=True)
        case "html":
            return _Sandbox(kind, _for_html, autoescape=True)
        case "text":
            return _Sandbox(kind, _for_text, autoescape=False)
        case _:
            return _Sandbox(kind, _words, autoescape=False)


@lru_cache(maxsize=512)
def _compiled(kind: str, source: str) -> tuple[Template | None, bool]:
    """The template (None where there is nothing to fill in), and whether its values can be recorded."""
    if not _JINJA.search(source):
        return None, not is_private(source)
    box = sandbox(kind)
    return box.from_string(source), not is_private(source) and _prints_only(box.parse(source))


def _prints_only(tree: nodes.Template) -> bool:
    """Whether what was filled in is printed, and never looked at again: a slot must not be measured, cut or compared."""
    captured = {"body", "footer", "block"} | {macro.name for macro in tree.find_all(nodes.Macro)}
    for kept in tree.find_all(nodes.AssignBlock):
        if not isinstance(kept.target, nodes.Name) or kept.filter is not None:
            return False
        captured.add(kept.target.name)
    if next(tree.find_all(_REREAD), None) is not None or any(loop.recursive for loop in tree.find_all(nodes.For)):
        return False
    printed: set[int] = set()
    for output in tree.find_all(nodes.Output):
        for child in output.nodes:
            printed.add(id(child.node if isinstance(child, nodes.Call) else child))
    return all(
        id(name) in printed or name.ctx != "load"
        for name in tree.find_all(nodes.Name)
        if name.name in captured
    )


def fill(kind: str, source: str, values: Mapping[str, Any], where: str, line: int = 1) -> str:
    """Renders a template. Raises `BrokenMail`, whose detail names the file, the line and what was missing."""
    parts: list[str] = []
    size = 0
    try:
        template, recordable = _compiled(kind, source)
        if RECORDER in values and not recordable:
            raise Unsafe("a template that reads what it filled in")
        if template is None:
            return source
        for part in template.generate(values):
            size += len(part)
            if size > OUTPUT_LIMIT:
                raise BrokenMail(
                    f"{where}: renders to more than {OUTPUT_LIMIT:,} characters; is there a loop too many?"
                )
            parts.append(part)
    except TemplateSyntaxError as error:
        raise BrokenMail(f"{where}, line {error.lineno + line - 1}: {error.message}") from None
    except BrokenMail:
        raise
    except (
        TemplateError,
        ArithmeticError,
        TypeError,
        ValueError,
        LookupError,
        AttributeError,
        RecursionError,
    ) as error:
        message = error.message if isinstance(error, TemplateError) and error.message else str(error)
        raise BrokenMail(f"{where}, line {_failed_line(error) + line - 1}: {message}") from None
    return "".join(parts)


def _failed_line(error: BaseException) -> int:
    line, trace = 1, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


