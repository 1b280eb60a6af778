"""What a mail says of the content catalogue: the piece that it is about, and others that suit its reader."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlmodel import Session

from mebae.content import Piece, related
from mebae.store.reading import reader_of
from mebae.store.tables import Lead


def recommended(
    session: Session, lead: Lead, pieces: Sequence[Piece], source: str, language: str, now: datetime, *, about: str | None = None
) -> dict[str, Any]:
    """`piece` and `related` for a mail that names them in its source; nothing for any other, which costs nothing then.

    Args:
        language: that of the text, or "".
        about: the piece that was chosen for this delivery.
    """
    tongue = language or lead.language
    found: dict[str, Any] = {}
    if "piece" in source:
        chosen = next((piece for piece in pieces if piece.id == about), None)
        found["piece"] = chosen.values(tongue) if chosen is not None else None
    if "related" in source:
        but = () if about is None else (about,)
        found["related"] = [piece.values(tongue) for piece in related(pieces, reader_of(session, lead, now), but=but)]
    return found
