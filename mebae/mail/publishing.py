"""Publishing mails, layouts and blocks: each text is stored by content hash for ever, each mail id points at its newest text.

Mails are no part of a scenario's version: a journey sends the newest published text, and the last one published when
the file is gone.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, select

from mebae.mail.shared import Shared, blocks_of
from mebae.store.tables import MailText, PublishedMail

LAYOUTS = "layouts"
"""The scope that layouts are published under."""
BLOCKS = "blocks"
"""The scope that blocks are published under."""

_FILE = re.compile(r"(?P<name>[^.]+)(?:\.(?P<language>[^.]+))?\.md")
_KEPT = 512


def layout_files(folder: Path) -> dict[str, str]:
    """The layouts of `scenarios/layouts/`: `default.html` is "default"."""
    return {path.stem: path.read_text(encoding="utf-8-sig") for path in sorted(folder.glob("*.html"))}


def block_files(folder: Path) -> dict[tuple[str, str], str]:
    """The blocks of `scenarios/blocks/`: `signature.ja.md` is ("signature", "ja"), `signature.md` ("signature", "")."""
    found = {}
    for path in sorted(folder.glob("*.md")):
        parts = _FILE.fullmatch(path.name)
        if parts is not None and parts["name"].upper() != "README":
            found[parts["name"], parts["language"] or ""] = path.read_text(encoding="utf-8-sig")
    return found


def publish_mails(
    session: Session, scope: str, files: Mapping[tuple[str, str], str], now: datetime
) -> list[tuple[str, str]]:
    """Makes these the mails of a scenario; one that is not among them keeps its last text. Twice changes nothing.

    Args:
        scope: the scenario's id.
        files: source by (mail id, language), language "" for any.

    Returns:
        the (mail, language) pairs whose text is new or changed.
    """
    published = {
        (row.mail, row.language): row.hash
        for row in session.exec(select(PublishedMail).where(PublishedMail.scope == scope))
    }
    changed: list[tuple[str, str]] = []
    # In one order everywhere, so that two workers that publish at once do not lock each other.
    for (mail, language), source in sorted(files.items()):
        text, digest = _stored(source)
        if published.get((mail, language)) == digest:
            continue
        changed.append((mail, language))
        _upsert(session, MailText, {"hash": digest}, {"source": text, "published_at": now}, update=())
        _upsert(
            session,
            PublishedMail,
            {"scope": scope, "mail": mail, "language": language},
            {"hash": digest},
            update=("hash",),
        )
    session.expire_all()
    return changed


def publish_layouts(session: Session, files: Mapping[str, str], now: datetime) -> list[str]:
    """Publishes layouts, source by name. Returns the names that are new or changed."""
    return [
        name for name, _ in publish_mails(session, LAYOUTS, {(name, ""): source for name, source in files.items()}, now)
    ]


def publish_blocks(session: Session, files: Mapping[tuple[str, str], str], now: datetime) -> list[tuple[str, str]]:
    """Publishes blocks, source by name and language. Returns those that are new or changed."""
    return publish_mails(session, BLOCKS, files, now)


def mail_sources(session: Session, scope: str, mail: str) -> dict[str, tuple[str, str]]:
    """A mail's published texts: language → (hash, source). Empty when it was never published."""
    rows = session.exec(
        select(PublishedMail.language, PublishedMail.hash).where(PublishedMail.scope == scope, PublishedMail.mail == mail)
    ).all()
    sources = _sources(session, {digest for _, digest in rows})
    return {language: (digest, sources[digest]) for language, digest in rows}


def shared_texts(session: Session) -> Shared:
    """The newest published layouts and blocks; the last ones published of those that are gone."""
    rows = session.exec(select(PublishedMail).where(col(PublishedMail.scope).in_((LAYOUTS, BLOCKS)))).all()
    key = frozenset((row.scope, row.mail, row.language, row.hash) for row in rows)
    shared = _shared.get(key)
    if shared is None:
        sources = _sources(session, {row.hash for row in rows})
        layouts = {row.mail: sources[row.hash] for row in rows if row.scope == LAYOUTS}
        blocks = {(row.mail, row.language): sources[row.hash] for row in rows if row.scope == BLOCKS}
        shared = Shared(layouts, blocks_of(blocks))
        _shared.clear()
        _shared[key] = shared
    return shared


def layout_source(session: Session, name: str = "default") -> str:
    """A layout's newest published text. Raises `BrokenMail` (code `layout-missing`) when there is none."""
    return shared_texts(session).layout(name)


_texts: OrderedDict[str, str] = OrderedDict()
"""Sources by hash. A text never changes, so that a mail to the next lead reads hashes only."""
_shared: dict[frozenset[tuple[str, str, str, str]], Shared] = {}
"""What was published last, by what it is made of."""


def _sources(session: Session, hashes: Collection[str]) -> dict[str, str]:
    found = {digest: source for digest in hashes if (source := _texts.get(digest)) is not None}
    wanted = sorted(set(hashes) - set(found))
    if wanted:
        rows = session.exec(select(MailText.hash, MailText.source).where(col(MailText.hash).in_(wanted)))
        for digest, source in rows:
            found[digest] = _texts[digest] = source
        for _ in range(len(_texts) - _KEPT):
            _texts.popitem(last=False)
    return found


def _stored(source: str) -> tuple[str, str]:
    """The text as it is kept, and its hash: the same on every machine, whatever its line ends."""
    text = source.removeprefix("\ufeff").replace("\r\n", "\n")
    return text, hashlib.sha256(text.encode()).hexdigest()


def _upsert(session: Session, table: Any, key: dict[str, Any], values: dict[str, Any], update: tuple[str, ...]) -> None:
    insert: Any = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement = insert(table).values(**key, **values)
    if update:
        statement = statement.on_conflict_do_update(
            index_elements=list(key), set_={name: values[name] for name in update}
        )
    else:
        statement = statement.on_conflict_do_nothing(index_elements=list(key))
    session.execute(statement)
