"""`column is one of many` as one bound value, so that a statement stays the same text whatever the number of them.

SQLAlchemy's own `in_` writes a parameter for each value and puts the statement together anew for every call: in the statements
on the way of each mail that took longer than the database did. And PostgreSQL can only keep the plan of a text that it has seen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import ARRAY, BigInteger, BindParameter, ColumnElement, String, TypeDecorator, bindparam, literal
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType, TypeEngine


class _Many(TypeDecorator[Iterable[Any]]):
    """Many values in one text: JSON on SQLite, an array as PostgreSQL writes it."""

    impl = String
    cache_ok = True

    def __init__(self, numbers: bool) -> None:
        super().__init__()
        self.numbers = numbers

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return String() if dialect.name == "sqlite" else ARRAY(BigInteger if self.numbers else String)

    def bind_processor(self, dialect: Dialect) -> Callable[[Iterable[Any] | None], str]:
        if dialect.name == "sqlite":
            return lambda values: json.dumps(list(values or ()), ensure_ascii=False)
        # Not the array's own, for which the driver looks at each element.
        written = str if self.numbers else _quoted
        return lambda values: "{" + ",".join(map(written, values or ())) + "}"


def _quoted(word: str) -> str:
    """An element of an array (PostgreSQL 8.15.6).

    >>> print(_quoted('a"b\\\\c'))
    "a\\"b\\\\c"
    """
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


class _Among(FunctionElement[bool]):
    # Not Boolean: SQLite has none, and would be asked whether this is 1, which no index answers.
    type = NullType()  # type: ignore[assignment]
    inherit_cache = True


class _NotAmong(_Among):
    inherit_cache = True


@compiles(_Among)
def _in_array(element: _Among, compiler: SQLCompiler, **how: Any) -> str:
    column, many = (compiler.process(part, **how) for part in element.clauses)
    return f"{column} <> ALL ({many})" if isinstance(element, _NotAmong) else f"{column} = ANY ({many})"


@compiles(_Among, "sqlite")
def _in_json(element: _Among, compiler: SQLCompiler, **how: Any) -> str:
    column, many = (compiler.process(part, **how) for part in element.clauses)
    is_in = "NOT IN" if isinstance(element, _NotAmong) else "IN"
    return f"{column} {is_in} (SELECT value FROM json_each({many}))"  # noqa: S608 (a parameter, rendered)


def among(column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    """Whether the column is one of the values that are given by this name when the statement is carried out.

    The values are numbers or words, as the column's are.
    """
    return _Among(column, _many(column, name))


def not_among(column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    """The opposite, for a column that is never empty."""
    return _NotAmong(column, _many(column, name))


def fixed(column: ColumnElement[Any], words: Iterable[str]) -> ColumnElement[bool]:
    """Whether the column is one of these words, which are the same in every call."""
    return column.in_([literal(str(word), String) for word in words])


def _many(column: ColumnElement[Any], name: str) -> BindParameter[Any]:
    return bindparam(name, type_=_Many(column.type.python_type is int))
