"""What Alembic runs: one connection, given by `mebae.store.migrate`, already in a transaction that holds the lock."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlmodel import SQLModel

from mebae.store import tables


def _render(kind: str, item: Any, autogen: AutogenContext) -> str | Literal[False]:
    """Writes our own types by name in a generated migration."""
    if kind == "type" and isinstance(item, tables.UtcDateTime):
        return "UtcDateTime()"
    if kind == "type" and item is tables.Json:
        return "Json"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    render_as_batch=True,
    transactional_ddl=True,
    compare_type=True,
    compare_server_default=True,
    render_item=_render,
)
with context.begin_transaction():
    context.run_migrations()
