"""Outcomes of hand-overs from a CSV file or workbook, row by row: what a CRM without a connection exports.

Each row is a transaction of its own; a bad one is told by its line and keeps no other from going in. The same file twice changes
nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlmodel import Session, col, select

from mebae.errors import BadInput, MebaeError, did_you_mean
from mebae.handing import Decided, Decision
from mebae.handover import BY_PEOPLE, UNDER_WAY, Move
from mebae.sheets import readings, value_of
from mebae.store import leads
from mebae.store.leads import normalise_email
from mebae.store.tables import Handover

HEADINGS: dict[str, tuple[str, ...]] = {
    "id": ("id", "handover", "引き渡し番号", "番号"),
    "email": ("email", "メールアドレス", "メール", "e-mail"),
    "outcome": ("outcome", "結果", "ステータス", "状態"),
    "reason": ("reason", "理由", "失注理由", "見送り理由"),
    "amount": ("amount", "金額", "受注金額"),
    "note": ("note", "メモ", "備考"),
    "by": ("by", "担当", "担当者"),
    "to": ("to", "引き継ぎ先"),
}
OUTCOMES: dict[str, Move] = {
    "受領": Move.ACCEPT, "accepted": Move.ACCEPT, "見送り": Move.REJECT, "rejected": Move.REJECT, "差し戻し": Move.RETURN,
    "returned": Move.RETURN, "sql": Move.SQL, "商談": Move.OPPORTUNITY, "商談化": Move.OPPORTUNITY, "受注": Move.WON, "失注": Move.LOST,
    "引き継ぎ": Move.PASS, "passed": Move.PASS, **{str(move): move for move in BY_PEOPLE},
}  # fmt: skip


@dataclass(frozen=True)
class RowOutcome:
    """What came of a row."""

    line: int
    changed: bool = False
    problem: str | None = None


def import_outcomes(path: Path, decide: Callable[[int, Decision], Decided], find: Callable[[str], int]) -> Iterator[RowOutcome]:
    """Carries out every row. `find`: the hand-over that is under way of an address. Raises `BadInput` for a file that cannot be read."""
    sheet = readings(path)[0]
    rows = sheet.rows()
    head = next(rows, None)
    if head is None or head.problem is not None:
        raise BadInput(f"{path.name}: the first line names the columns: id (or email), outcome, reason, amount, note, by")
    names = [_heading(str(cell)) for cell in head.cells]
    if "outcome" not in names or not {"id", "email"} & set(names):
        raise BadInput(f"{path.name}: there must be a column outcome, and one of id and email")
    content = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    for row in rows:
        if row.problem is not None:
            yield RowOutcome(row.line, problem=row.problem)
            continue
        cells = {name: str(value_of(cell) if cell != "" else "").strip() for name, cell in zip(names, row.cells, strict=False) if name}
        try:
            decided = decide(_handover(cells, find), _decision(cells, f"csv:{content}:{row.line}"))
        except MebaeError as error:
            yield RowOutcome(row.line, problem=str(error))
        else:
            yield RowOutcome(row.line, changed=decided.changed)


def handover_of(session: Session, email: str) -> int:
    """The newest hand-over of a lead by its address, one under way before those that are closed. Raises `BadInput`."""
    lead = leads.find_lead(session, email=normalise_email(email))
    if lead is None:
        raise BadInput(f"there is no lead {email}")
    rows = session.exec(select(Handover).where(Handover.lead_id == lead.id).order_by(col(Handover.id).desc())).all()
    found = next((row for row in rows if row.status in UNDER_WAY), rows[0] if rows else None)
    if found is None or found.id is None:
        raise BadInput(f"{email} was never handed over")
    return found.id


def _heading(text: str) -> str:
    plain = text.strip().casefold()
    return next((name for name, words in HEADINGS.items() if plain in words), "")


def _handover(cells: Mapping[str, str], find: Callable[[str], int]) -> int:
    number = cells.get("id", "").removesuffix(".0")
    if number:
        if not number.isdigit():
            raise BadInput(f"'{number}' is no number of a hand-over")
        return int(number)
    if not cells.get("email"):
        raise BadInput("the row names no hand-over: write its id, or the lead's email")
    return find(cells["email"])


def _decision(cells: Mapping[str, str], cause: str) -> Decision:
    word = cells.get("outcome", "").casefold()
    move = OUTCOMES.get(word)
    if move is None:
        raise BadInput(f"'{cells.get('outcome', '')}' is no outcome{did_you_mean(word, OUTCOMES)}")
    amount = cells.get("amount", "").replace(",", "").removesuffix(".0").lstrip("¥￥")
    if amount and not amount.isdigit():
        raise BadInput(f"'{cells['amount']}' is no amount: write digits")
    return Decision(
        move=move, by=cells.get("by") or "csv", how="csv", reason=cells.get("reason") or None, note=cells.get("note", ""),
        amount=int(amount) if amount else None, to=cells.get("to") or None, cause=cause, skipping=move is not Move.PASS,
    )  # fmt: skip
