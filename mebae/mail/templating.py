"""The Jinja sandbox that mails and layouts are filled in with, and what a marketer may write in it.

Authors are trusted with words, not with the machine: no Python attributes, no endless loops or output. What a
lead typed into a form is trusted with nothing: every value is escaped for the place it lands in, so that a name like
`*x* <script>` arrives as it was typed. A value that is missing never becomes an empty gap in somebody's salutation:
printing it fails, asking for it (`{% if lead.company %}`) is false, and `default_to` gives the words instead.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import cache, lru_cache
from typing import Any, NoReturn
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

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
    "time_zone",
)  # fmt: skip
"""What a mail may name. A layout has `body`, `subject` and `preheader` too."""
LAYOUT_NAMES = (*NAMES, "body", "subject", "preheader")

_STRICT = {"lead": LEAD_FIELDS, "company": COMPANY_FIELDS}
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
_NAMELESS = {"ja": "お客様"}
_WEEKDAYS = {"ja": "月火水木金土日", "en": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"}
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
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

    def __init__(self, finalize: Callable[[Any], Any], *, autoescape: bool) -> None:
        super().__init__(
            undefined=StrictUndefined, autoescape=autoescape, finalize=finalize, keep_trailing_newline=True,
            trim_blocks=True, lstrip_blocks=True, auto_reload=False, cache_size=0,
        )  # fmt: skip
        self.globals = {"range": _range}
        for name in ("safe", "e", "escape", "forceescape", "urlize", "xmlattr", "tojson", "pprint", "center", "format"):
            self.filters.pop(name, None)
        self.filters |= {"sama": sama, "date": on_date, "default_to": default_to}

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


def escape_markdown(text: str) -> str:
    """A value as Markdown that shows it letter by letter, in one line.

    >>> escape_markdown("*x* <b> [a](javascript:alert)")
    '\\\\*x\\\\* \\\\<b\\\\> \\\\[a\\\\]\\\\(javascript\\\\:alert\\\\)'
    """
    flat = "".join(
        " " if unicodedata.category(letter)[0] == "C" and letter not in "\u200d\u200c" else letter for letter in text
    )
    return _PUNCTUATION.sub(r"\\\1", " ".join(flat.split()))


def _for_markdown(value: Any) -> Any:
    # `Markup` marks what has been escaped already (a macro, a block set), so that it is not escaped twice.
    return value if isinstance(value, Markup) else Markup(escape_markdown(_words(value)))  # noqa: S704


def _for_html(value: Any) -> Any:
    return value if isinstance(value, Markup) else _words(value)


@cache
def _sandbox(kind: str) -> _Sandbox:
    if kind == "markdown":
        return _Sandbox(_for_markdown, autoescape=True)
    return _Sandbox(_for_html, autoescape=True) if kind == "html" else _Sandbox(_words, autoescape=False)


@lru_cache(maxsize=512)
def _compiled(kind: str, source: str) -> Template:
    return _sandbox(kind).from_string(source)


def check_template(kind: str, source: str, where: str, line: int = 1) -> None:
    """Refuses broken syntax, unknown filters and unknown names, before any lead meets them.

    Args:
        kind: `markdown`, `html` or `line`.
        line: the line of the file that the source begins on.
    """
    try:
        _compiled(kind, source)
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
        for part in _compiled(kind, source).generate(values):
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


def _language(context: Context) -> str:
    language = context.get("language")
    return language.split("-")[0].lower() if isinstance(language, str) and language else "ja"


def _absent(value: Any) -> bool:
    return value is None or isinstance(value, Undefined) or (isinstance(value, str) and not value.strip())


def default_to(value: Any, words: Any) -> Any:
    """`{{ lead.company | default_to("貴社") }}`: the words where the value is missing or blank."""
    return words if _absent(value) else value


@pass_context
def sama(context: Context, name: Any) -> str:
    """`{{ lead.name | sama }}`: 山田 太郎 様 in a Japanese mail, else the plain name; お客様 or "there" without one."""
    language = _language(context)
    if _absent(name):
        return _NAMELESS.get(language, "there")
    plain = " ".join(str(name).split())
    return plain if language != "ja" or plain.endswith(("様", "さま", "さん")) else f"{plain} 様"


@pass_context
def on_date(context: Context, value: Any, pattern: str | None = None) -> str:
    """`{{ entry.date | date }}`: 2026年4月1日（水） or Wednesday, 1 April 2026; or a pattern: `date("%Y/%m/%d")`.

    A time of day with a zone is shown on the lead's calendar: 09:00 in Tokyo is the day before in New York.
    """
    if _absent(value):
        str(value)  # a missing value names itself
        raise UndefinedError("a date is empty here")
    day: date
    try:
        if isinstance(value, str):
            text = value.strip().replace("Z", "+00:00")
            day = datetime.fromisoformat(text) if len(text) > 10 else date.fromisoformat(text)
        else:
            day = value
        if not isinstance(day, date):
            raise ValueError
    except ValueError:
        raise UndefinedError(
            "a value cannot be read as a date: dates look like 2026-04-01 or 2026-04-01T09:00:00+09:00"
        ) from None
    zone = context.get("time_zone")
    if isinstance(day, datetime) and day.tzinfo is not None and isinstance(zone, str) and zone:
        try:
            day = day.astimezone(ZoneInfo(zone))
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise UndefinedError(f"'{zone}' is no time zone") from None
    if pattern is not None:
        return day.strftime(pattern)
    if _language(context) == "ja":
        return f"{day.year}年{day.month}月{day.day}日（{_WEEKDAYS['ja'][day.weekday()]}）"
    return f"{_WEEKDAYS['en'].split()[day.weekday()]}, {day.day} {_MONTHS[day.month - 1]} {day.year}"
