"""Publishing mails and layouts: each text is stored by content hash for ever, each mail id points at its newest text.

Mails are no part of a scenario's version: a journey sends the newest published text, and the last one published when
the file is gone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, select

from mebae.errors import BadInput
from mebae.mail.templating import BrokenMail
from mebae.store.tables import MailText, PublishedMail

LAYOUTS = "layouts"
"""The scope that layouts are published under."""

_FILE = re.compile(r"(?P<mail>[a-z0-9][a-z0-9_-]*)(?:\.(?P<language>[A-Za-z]{2,3}(?:-[A-Za-z0-9]+)*))?\.md")


def mail_files(folder: Path) -> dict[tuple[str, str], str]:
    """The mails of a scenario's folder: `thanks.ja.md` is ("thanks", "ja"), `thanks.md` ("thanks", "").

    Raises `BadInput` for a file that is not named so, or is not UTF-8.
    """
    files: dict[tuple[str, str], str] = {}
    for path in sorted(folder.glob("*.md")):
        if path.name.lower() == "readme.md":
            continue
        found = _FILE.fullmatch(path.name)
        if found is None:
            raise BadInput(
                f"{path}: a mail's file is named like thanks.ja.md or thanks.md, in small letters, digits and hyphens"
            )
        try:
            files[found["mail"], found["language"] or ""] = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise BadInput(f"{path}: is not UTF-8; save it as UTF-8") from None
    return files


def layout_files(folder: Path) -> dict[str, str]:
    """The layouts of `scenarios/layouts/`: `default.html` is "default"."""
    return {path.stem: path.read_text(encoding="utf-8-sig") for path in sorted(folder.glob("*.html"))}


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


def mail_sources(session: Session, scope: str, mail: str) -> dict[str, tuple[str, str]]:
    """A mail's published texts: language → (hash, source). Empty when it was never published."""
    rows = session.exec(
        select(PublishedMail.language, MailText.hash, MailText.source)
        .join(MailText, PublishedMail.hash == MailText.hash)  # type: ignore[arg-type]
        .where(PublishedMail.scope == scope, PublishedMail.mail == mail)
    )
    return {language: (digest, source) for language, digest, source in rows}


def layout_source(session: Session, name: str = "default") -> str:
    """A layout's newest published text. Raises `BrokenMail` (code `layout-missing`) when there is none."""
    found = mail_sources(session, LAYOUTS, name).get("")
    if found is None:
        raise BrokenMail(f"layout '{name}' was never published", "layout-missing")
    return found[1]


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
