"""What SQLAlchemy has no common word for on SQLite and PostgreSQL: reading JSON by kind, tags, globs, the look of a date.

Each element takes its parts as clauses, so that SQLAlchemy caches the statements that hold it.
"""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import BigInteger, Boolean, ColumnElement, Double, Null, String, literal, null
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

_PLAIN = re.compile(r"[A-Za-z0-9_ -]+")


class Kind(FunctionElement[str]):
    """The kind of a JSON value: integer, real, text, true, false, null (SQLite); number, string (PostgreSQL); NULL if missing."""

    inherit_cache, type = True, String()


class Text(FunctionElement[str]):
    """A JSON string as text. Ask for the kind first."""

    inherit_cache, type = True, String()


class Number(FunctionElement[float]):
    """A JSON number as a number to compare with `Exact`. Ask for the kind first: PostgreSQL fails on anything else."""

    inherit_cache, type = True, Double()


class Exact(FunctionElement[float]):
    """A number to compare JSON's with: PostgreSQL's are of any size, so that a float could not hold them."""

    inherit_cache, type = True, Double()


class HasTag(FunctionElement[bool]):
    """Whether a JSON list holds a string."""

    inherit_cache, type = True, Boolean()


class Glob(FunctionElement[bool]):
    """Whether a text is like a glob, of which only `*` is special. Case counts."""

    inherit_cache, type = True, Boolean()


class LooksLikeADate(FunctionElement[bool]):
    """Whether a text begins like 2026-04-01."""

    inherit_cache, type = True, Boolean()


def json_parts(document: ColumnElement[Any], key: str) -> tuple[Kind, Text, Number]:
    """The three ways to read one key of a JSON object."""
    # SQLite (3.40) finds only plain keys by a path, as it compares what JSON escapes in its escaped form.
    path = text(f'$."{key}"') if _PLAIN.fullmatch(key) else null()
    parts = (document, text(key), path)
    return Kind(*parts), Text(*parts), Number(*parts)


def exact(number: float) -> Exact:
    return Exact(numeric(number), text(str(number)))


def glob(value: ColumnElement[Any], pattern: str) -> Glob:
    parts = pattern.split("*")
    sqlite = "*".join(re.sub(r"[?\[]", r"[\g<0>]", part) for part in parts)
    postgres = "%".join(re.sub(r"[!%_]", r"!\g<0>", part) for part in parts)
    return Glob(value, text(sqlite), text(postgres))


def numeric(number: float) -> ColumnElement[Any]:
    """A number as a parameter: whole if 64 bits hold it."""
    if isinstance(number, int) and abs(number) < 2**63:
        return literal(number, BigInteger())
    try:
        return literal(float(number), Double())
    except OverflowError:
        return literal(float("inf" if number > 0 else "-inf"), Double())


def text(value: str) -> ColumnElement[str]:
    return literal(value, String())


def _parts(element: FunctionElement[Any], compiler: SQLCompiler, kw: dict[str, Any], *which: int) -> list[str]:
    """Only what is rendered becomes a parameter: the parts for the other database do not."""
    parts = list(element.clauses)
    return [compiler.process(parts[number], **kw) for number in which]


def _read_sqlite(
    element: FunctionElement[Any], compiler: SQLCompiler, kw: dict[str, Any], function: str, column: str
) -> str:
    if isinstance(list(element.clauses)[2], Null):
        document, key = _parts(element, compiler, kw, 0, 1)
        return f"(SELECT {column} FROM json_each({document}) WHERE key = {key})"  # noqa: S608 (parameters, rendered)
    document, path = _parts(element, compiler, kw, 0, 2)
    return f"{function}({document}, {path})"


@compiles(Kind, "sqlite")
def _(element: Kind, compiler: SQLCompiler, **kw: Any) -> str:
    return _read_sqlite(element, compiler, kw, "json_type", "type")


@compiles(Text, "sqlite")
@compiles(Number, "sqlite")
def _(element: FunctionElement[Any], compiler: SQLCompiler, **kw: Any) -> str:
    return _read_sqlite(element, compiler, kw, "json_extract", "value")


@compiles(Exact, "sqlite")
def _(element: Exact, compiler: SQLCompiler, **kw: Any) -> str:
    return _parts(element, compiler, kw, 0)[0]


@compiles(HasTag, "sqlite")
def _(element: HasTag, compiler: SQLCompiler, **kw: Any) -> str:
    tags, tag = _parts(element, compiler, kw, 0, 1)
    return f"EXISTS (SELECT 1 FROM json_each({tags}) WHERE type = 'text' AND value = {tag})"  # noqa: S608 (as above)


@compiles(Glob, "sqlite")
def _(element: Glob, compiler: SQLCompiler, **kw: Any) -> str:
    value, pattern = _parts(element, compiler, kw, 0, 1)
    return f"({value} GLOB {pattern})"  # LIKE would take "a" for "A"


@compiles(LooksLikeADate, "sqlite")
def _(element: LooksLikeADate, compiler: SQLCompiler, **kw: Any) -> str:
    digit, (value,) = "[0-9]", _parts(element, compiler, kw, 0)
    return f"({value} GLOB '{digit * 4}-{digit * 2}-{digit * 2}*')"


@compiles(Kind, "postgresql")
def _(element: Kind, compiler: SQLCompiler, **kw: Any) -> str:
    document, key = _parts(element, compiler, kw, 0, 1)
    kind = f"jsonb_typeof({document} -> {key})"
    return f"(CASE {kind} WHEN 'boolean' THEN ({document} ->> {key}) ELSE {kind} END)"


@compiles(Text, "postgresql")
def _(element: Text, compiler: SQLCompiler, **kw: Any) -> str:
    document, key = _parts(element, compiler, kw, 0, 1)
    return f"({document} ->> {key})"


@compiles(Number, "postgresql")
def _(element: Number, compiler: SQLCompiler, **kw: Any) -> str:
    document, key = _parts(element, compiler, kw, 0, 1)
    return f"CAST(({document} -> {key}) AS NUMERIC)"


@compiles(Exact, "postgresql")
def _(element: Exact, compiler: SQLCompiler, **kw: Any) -> str:
    return f"CAST({_parts(element, compiler, kw, 1)[0]} AS NUMERIC)"


@compiles(HasTag, "postgresql")
def _(element: HasTag, compiler: SQLCompiler, **kw: Any) -> str:
    tags, tag = _parts(element, compiler, kw, 0, 1)
    return f"(jsonb_typeof({tags}) = 'array' AND {tags} ? CAST({tag} AS TEXT))"


@compiles(Glob, "postgresql")
def _(element: Glob, compiler: SQLCompiler, **kw: Any) -> str:
    value, pattern = _parts(element, compiler, kw, 0, 2)
    return f"({value} LIKE {pattern} ESCAPE '!')"


@compiles(LooksLikeADate, "postgresql")
def _(element: LooksLikeADate, compiler: SQLCompiler, **kw: Any) -> str:
    return f"({_parts(element, compiler, kw, 0)[0]} ~ '^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}')"
