"""CPU per rendered mail, with the fast way and the plain way side by side in one run: every shipped mail, leads that differ.

`python -m bench.render [LEADS]`; the plain way writes a fiftieth of them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mebae.loading import load_all
from mebae.mail.publishing import block_files, layout_files
from mebae.mail.rendering import MailSource, Sender, Shared, Tracking, company_values, lead_values, parse_mail, render
from mebae.mail.shared import blocks_of
from mebae.store.tables import Lead

ROOT = Path(__file__).resolve().parents[1]
FAMILY, GIVEN = ["佐藤", "鈴木", "高橋", "田中", "渡辺", "山﨑", "Smith", "Lee"], ["健二", "花子", "一郎", "Ann", "美咲", "J."]
FIRMS = ["株式会社青葉精機", "A&B (Tokyo) Ltd.", "北浜電工", None, "㈱みどり建設"]

PIECE = {
    "id": "basics", "title": "点検業務の見直し方 入門", "link": "https://example.com/ja/basics", "kind": "article", "summary": "5つの手順",
}  # fmt: skip


def values(number: int, language: str) -> dict[str, Any]:
    name = f"{FAMILY[number % len(FAMILY)]} {GIVEN[number % len(GIVEN)]}{number}" if number % 7 else None
    lead = Lead(id=number, email=f"{number}@example.com", name=name, company=FIRMS[number % len(FIRMS)], language=language)
    return {
        "lead": lead_values(lead), "company": company_values(None, lead), "entry": {"title": f"白書{number % 9}"},
        "sender": Sender("点検ノート", "news@example.com", "〒100-0001 東京都千代田区千代田1-1", "03-1234-5678"),
        "unsubscribe_url": f"https://m.example.jp/u/{number}", "preferences_url": f"https://m.example.jp/p/{number}",
        "view_url": f"https://m.example.jp/v/{number}", "piece": PIECE, "related": [PIECE], "time_zone": "Asia/Tokyo", "language": language,
    }  # fmt: skip


def seconds(mails: Sequence[tuple[MailSource, str]], shared: Shared, leads: int, *, plainly: bool) -> float:
    """Of CPU for a mail."""
    filled = [(mail, values(number, language)) for number in range(leads) for mail, language in [mails[number % len(mails)]]]
    began = time.process_time()
    for number, (mail, seen) in enumerate(filled):
        base = f"https://m.example.jp/c/{number}"
        tracking = Tracking(lambda target, base=base: f"{base}-{len(target)}", f"{base}.gif", f"{base}-x")  # type: ignore[misc]
        blocks = shared.blocks_for(seen["language"])
        render(mail, shared.layout_of(mail), seen, blocks=blocks, tracking=tracking, plainly=plainly)
    return (time.process_time() - began) / leads


def main(leads: int = 20_000) -> None:
    home = ROOT / "scenarios"
    shared = Shared(layout_files(home / "layouts"), blocks_of(block_files(home / "blocks")))
    mails = [
        (parse_mail(path.read_text(encoding="utf-8"), path.name), language or "ja")
        for loaded in load_all(ROOT)
        for (_, language), path in loaded.mails.items()
    ]
    fast, plain = seconds(mails, shared, leads, plainly=False), seconds(mails, shared, max(leads // 50, 1), plainly=True)
    print(f"{len(mails)} mails, {leads:,} leads: {fast * 1000:.3f} ms of CPU a mail; the plain way {plain * 1000:.2f} ms")
    print(f"{plain / fast:.1f} × as fast")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
