"""The content catalogue: what there is to send, and for whom it is written.

`send_next(mail="recommendation")` sends a lead the piece that suits it best and that it has neither been sent nor read; a mail
recommends further ones with `{% for piece in related %}`.
"""

from mebae.content_language import *

SITE = "https://example.com"

pieces = [
    piece(
        "inspection-basics",
        title={"ja": "点検業務の見直し方 入門", "en": "Rethinking inspections: a primer"},
        summary={"ja": "紙の点検表を見直す5つの手順", "en": "Five steps away from paper checklists"},
        link={"ja": f"{SITE}/ja/library/basics", "en": f"{SITE}/en/library/basics"},
        stage="awareness",
        kind="article",
    ),
    piece(
        "whitepaper-automation",
        title={"ja": "点検自動化ガイド", "en": "A guide to automated inspections"},
        summary={"ja": "自動化できる点検とできない点検", "en": "What can be automated, and what cannot"},
        link={"ja": f"{SITE}/ja/library/automation", "en": f"{SITE}/en/library/automation"},
        stage=["awareness", "interest"],
        topic="automation",
        kind="whitepaper",
    ),
    piece(
        "whitepaper-quality",
        title={"ja": "監査で困らない記録の残し方", "en": "Records that stand up in an audit"},
        link={"ja": f"{SITE}/ja/library/quality", "en": f"{SITE}/en/library/quality"},
        stage=["awareness", "interest"],
        topic="quality",
        kind="whitepaper",
    ),
    piece(
        "case-mfg",
        title={"ja": "導入事例: 記録時間を月40時間削減した工場", "en": "Case: a plant that saves 40 hours of paperwork a month"},
        link={"ja": f"{SITE}/ja/cases/mfg", "en": f"{SITE}/en/cases/mfg"},
        stage=["interest", "consideration"],
        industry="manufacturing",
        topic="automation",
        kind="case",
    ),
    piece(
        "case-construction",
        title={"ja": "導入事例: 12の現場を1枚の画面で", "en": "Case: twelve sites on one screen"},
        link={"ja": f"{SITE}/ja/cases/construction", "en": f"{SITE}/en/cases/construction"},
        stage=["interest", "consideration"],
        industry="construction",
        kind="case",
    ),
    piece(
        "price-guide",
        title={"ja": "費用と効果の試算表", "en": "Costs and returns: a worksheet"},
        link={"ja": f"{SITE}/ja/library/price-guide", "en": f"{SITE}/en/library/price-guide"},
        stage="consideration",
        topic="cost",
        kind="whitepaper",
    ),
]
