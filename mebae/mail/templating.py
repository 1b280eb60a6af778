"""The Jinja sandbox that mails and layouts are filled in with, and what a marketer may write in it.

Authors are trusted with words, not with the machine: no Python attributes, no endless loops or output. What a
lead typed into a form is trusted with nothing: every value is escaped for the place it lands in, so that a name like
`*x* <script>` arrives as it was typed. A value that is missing never becomes an empty gap in somebody's salutation:
printing it fails, asking for it (`{% if lead.company %}`) is false, and `default_to` gives the words instead.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from functools import cache, lru_cache
from typing import Any, NoReturn

from jinja2 import (
    StrictUndefined,
    Template,
    TemplateError,
    TemplateSyntaxError,
    Undefined,
    UndefinedError,
    meta,
    nodes,
    pass_context,
)
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment
from markupsafe import Markup

from mebae.errors import MailInvalid, did_you_mean
from mebae.mail.filters import FILTERS
from mebae.mail.markdown import escape_markdown
from mebae.mail.slots import RECORDER, Unsafe, is_private
from mebae.references import STANDARD

OUTPUT_LIMIT = 500_000
"""Characters that one mail may render to. Mail clients cut mails off far below this."""
_RANGE_LIMIT = 1_000

LEAD_FIELDS = (
    "id", "email", "name", "company", "title", "industry", "company_size", "language", "time_zone", "score", "stage",
    "qualification", "tags", "rank", "industry_group", "topics",
)  # fmt: skip
"""What every lead has, filled or not; everything else on `lead` is an attribute of its own."""

COMPANY_FIELDS = ("id", "name", "domain", "industry", "size")
"""What is known of the lead's firm."""

NAMES = (
    "lead", "company", "entry", "scenario", "sender", "unsubscribe_url", "preferences_url", "view_url", "language",
    "time_zone", "piece", "related",
)  # fmt: skip
"""What a mail may name. A layout has `body`, `subject` and `preheader` too."""
LAYOUT_NAMES = (*NAMES, "body", "subject", "preheader")

_STRICT = {"lead": LEAD_FIELDS, "company": COMPANY_FIELDS}


NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""Characters that no page can hold."""
_JINJA = re.compile(r"\{[{%#]|\r")
_REREAD = (
    nodes.CallBlock, nodes.FilterBlock, nodes.Block, nodes.Extends, nodes.Include, nodes.Import, nodes.FromImport,
    nodes.ScopedEvalContextModifier,
)  # fmt: skip


class BrokenMail(MailInvalid):
    """A mail that cannot be rendered. The message is the code; `detail` says what and where, for people."""

    def __init__(self, detail: str, code: str | None = None) -> None:
        super().__init__(code)
        self.detail = detail


class Missing(Undefined):
    """A value that this lead or entry does not have. It is false in an `if`, and fails when printed."""

    def _no(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise UndefinedError(self._undefined_message)

    __str__ = __iter__ = __len__ = _no


class Bag:
    """Values under dotted names. Not a dict, whose `items` or `keys` would shadow an attribute of that name."""

    __slots__ = ("_name", "_strict", "_values")

    def __init__(self, name: str, values: Mapping[str, Any], strict: Sequence[str] = ()) -> None:
        self._name, self._values, self._strict = name, values, strict

    def look(self, key: Any) -> Any:
        if isinstance(key, str) and key in self._values:
            value = self._values[key]
            if value is None or value == "":
                return self._missing(str(key))
            return Bag(f"{self._name}.{key}", value) if isinstance(value, Mapping) else value
        near = did_you_mean(str(key), self._strict) if self._strict else ""
        if "did you mean" in near and key not in self._strict:
            return StrictUndefined(hint=f"{self._name}.{key} does not exist{near}")
        return self._missing(str(key))

    def _missing(self, key: str) -> Missing:
        name = f"{self._name}.{key}"
        return Missing(
            hint=f"{name} is empty here: write {{{{ {name} | default_to('…') }}}} or {{% if {name} %}}", name=name
        )

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)


class _Sandbox(SandboxedEnvironment):
    """Sandboxed, strict, and small: what could hang or fill the worker is refused."""

    intercepted_binops = frozenset(("*", "**", "%"))

    def __init__(self, finalize: Callable[..., Any], *, autoescape: bool) -> None:
        super().__init__(
            undefined=StrictUndefined, autoescape=autoescape, finalize=finalize, keep_trailing_newline=True,
            trim_blocks=True, lstrip_blocks=True, auto_reload=False, cache_size=0,
        )  # fmt: skip
        self.globals = {"range": _range}
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


@cache
def _sandbox(kind: str) -> _Sandbox:
    if kind == "markdown":
        return _Sandbox(_for_markdown, autoescape=True)
    return _Sandbox(_for_html, autoescape=True) if kind == "html" else _Sandbox(_words, autoescape=False)


@lru_cache(maxsize=512)
def _compiled(kind: str, source: str) -> tuple[Template | None, bool]:
    """The template (None where there is nothing to fill in), and whether its values can be recorded."""
    if not _JINJA.search(source):
        return None, not is_private(source)
    sandbox = _sandbox(kind)
    return sandbox.from_string(source), not is_private(source) and _prints_only(sandbox.parse(source))


def _prints_only(tree: nodes.Template) -> bool:
    """Whether what was filled in is printed, and never looked at again: a slot must not be measured, cut or compared."""
    captured = {"body"} | {macro.name for macro in tree.find_all(nodes.Macro)}
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


def check_template(kind: str, source: str, where: str, line: int = 1) -> None:
    """Refuses broken syntax, unknown filters and unknown names, before any lead meets them.

    Args:
        kind: `markdown`, `html` or `line`.
        line: the line of the file that the source begins on.
    """
    try:
        _sandbox(kind).from_string(source)
        tree = _sandbox(kind).parse(source)
        unknown = sorted(meta.find_undeclared_variables(tree))
    except TemplateSyntaxError as error:
        raise BrokenMail(f"{where}, line {error.lineno + line - 1}: {error.message}") from None
    known = (*LAYOUT_NAMES, "range") if kind == "html" else (*NAMES, "range")
    for name in unknown:
        if name not in known:
            raise BrokenMail(
                f"{where}, line {_line_of(name, source) + line - 1}: '{name}' is unknown{did_you_mean(name, known)}"
            )
    for part in tree.find_all(nodes.Getattr):
        # Any other name is an attribute of the user's own; one that is nearly a standard name is a slip.
        if isinstance(part.node, nodes.Name) and part.node.name == "lead" and part.attr not in STANDARD:
            near = difflib.get_close_matches(part.attr, STANDARD, n=1, cutoff=0.8)
            if near:
                raise BrokenMail(
                    f"{where}, line {part.lineno + line - 1}: 'lead.{part.attr}' is no standard attribute, "
                    f"did you mean 'lead.{near[0]}'? If it is one of your own, write lead['{part.attr}']"
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


def _line_of(name: str, source: str) -> int:
    found = re.search(rf"\b{re.escape(name)}\b", source)
    return source.count("\n", 0, found.start()) + 1 if found else 1


def bags(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that a template sees, each missing one named."""
    seen: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            seen[name] = Bag(name, value, _STRICT.get(name, ()))
        elif value is None:
            seen[name] = Missing(hint=f"{name} is empty here", name=name)
        else:
            seen[name] = value
    return seen
