"""`column is one of many` as one bound value, so that a statement stays the same text whatever the number of them.

SQLAlchemy's own `in_` writes a parameter for each value and puts the statement together anew for every call: in the statements
on the way of each mail that took longer than the database did. And PostgreSQL can only keep the plan of a text that it has seen.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ARRAY, BigInteger, BindParameter, ColumnElement, String, TypeDecorator, bindparam, literal
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType, TypeEngine


class _Many(TypeDecorator[Sequence[Any]]):
    """An array on PostgreSQL, JSON on SQLite."""

    impl = String
    cache_ok = True

    def __init__(self, one: type[TypeEngine[Any]]) -> None:
        super().__init__()
        self.one = one

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(String() if dialect.name == "sqlite" else ARRAY(self.one))

    def process_bind_param(self, value: Iterable[Any] | None, dialect: Dialect) -> Any:
        values = list(value or ())
        return json.dumps(values, ensure_ascii=False) if dialect.name == "sqlite" else values


class _Among(FunctionElement[bool]):
    # Not Boolean: SQLite has none, and would be asked whether this is 1, which no index answers.
    type = NullType()
    inherit_cache = True


class _NotAmong(_Among):
    inherit_cache = True


@compiles(_Among)
def _as_array(element: _Among, compiler: SQLCompiler, **how: Any) -> str:
    column, many = (compiler.process(part, **how) for part in element.clauses)
    return f"{column} <> ALL({many})" if isinstance(element, _NotAmong) else f"{column} = ANY({many})"


@compiles(_Among, "sqlite")
def _as_json(element: _Among, compiler: SQLCompiler, **how: Any) -> str:
    column, many = (compiler.process(part, **how) for part in element.clauses)
    is_in = "NOT IN" if isinstance(element, _NotAmong) else "IN"
    return f"{column} {is_in} (SELECT value FROM json_each({many}))"


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
    return bindparam(name, type_=_Many(BigInteger if column.type.python_type is int else String))
