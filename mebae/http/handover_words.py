"""What the pages of a hand-over say to sales, in Japanese and English."""

from __future__ import annotations

from typing import NamedTuple

from mebae.handover import Move, Status
from mebae.http.lead_words import Language


class Words(NamedTuple):
    """One language."""

    title: str
    asks: str
    why: str
    score: str
    owner: str
    due: str
    stands: str
    sql_rule: str
    holds: str
    lacks: str
    reason: str
    note: str
    amount: str
    to: str
    others: str
    history: str
    done: str
    already: str
    not_possible: str
    closed: str
    expired: str
    moved: str
    passed_on: str
    lacking: str
    needs_reason: str
    needs_person: str
    wrong_amount: str
    between: str
    name_and_firm: str
    brackets: str
    unknown_person: str
    statuses: dict[Status, str]
    confirm: dict[Move, str]
    happened: dict[str, str]


JA = Words(
    title="リードの引き渡し",
    asks="内容をご確認のうえ、下のボタンで確定してください。このページを開いただけでは、何も確定しません。",
    why="引き渡しの理由", score="引き渡し時のスコア", owner="担当", due="期限", stands="状態", sql_rule="SQLの条件", holds="満たしています",
    lacks="不足: {missing}",
    reason="理由", note="メモ（任意）", amount="金額（{currency}）", to="引き継ぎ先", others="ほかの回答をする", history="これまでの経過",
    done="「{status}」として記録しました。ありがとうございます。",
    already="すでに「{status}」として記録されています（{who}、{at}）。変更はありません。",
    not_possible="この回答はできません。現在は「{status}」です（{who}、{at}）。",
    closed="この引き渡しは終了しています。もう一度ご対応いただく場合は、マーケティング担当へご連絡ください。",
    expired="回答期限を過ぎたため、このリードはマーケティングに戻りました（{at}）。ご対応いただける場合は、マーケティング担当へご連絡ください。",
    moved="確認中に状態が変わりました。現在は「{status}」です（{who}、{at}）。もう一度ご確認ください。",
    passed_on="このリードは {owner} さんへ引き継がれました。回答は担当者のみが行えます。",
    lacking="入力内容をご確認ください。",
    needs_reason="入力内容をご確認ください。理由をお選びください。", needs_person="入力内容をご確認ください。引き継ぎ先をお選びください。",
    wrong_amount="入力内容をご確認ください。金額は半角数字でご入力ください。",
    between="、", name_and_firm="・", brackets="（{}）",
    unknown_person="不明",
    statuses={
        Status.OPEN: "回答待ち", Status.ACCEPTED: "受領済み", Status.SQL: "SQL", Status.OPPORTUNITY: "商談", Status.WON: "受注",
        Status.LOST: "失注", Status.REJECTED: "見送り", Status.RETURNED: "差し戻し", Status.EXPIRED: "期限切れ",
        Status.WITHDRAWN: "取り下げ",
    },
    confirm={
        Move.ACCEPT: "このリードを受領する", Move.REJECT: "このリードを見送る", Move.RETURN: "マーケティングに差し戻す",
        Move.SQL: "SQLと判定する", Move.OPPORTUNITY: "商談として記録する", Move.WON: "受注として記録する", Move.LOST: "失注として記録する",
        Move.PASS: "別の担当に引き継ぐ",
    },
    happened={
        "open": "引き渡し", "joined": "別の理由でも引き渡し", "reminded": "再通知", "escalated": "上長へ通知",
        "accept": "受領", "reject": "見送り",
        "return": "差し戻し", "sql": "SQLと判定", "opportunity": "商談化", "won": "受注", "lost": "失注", "pass": "引き継ぎ",
        "expire": "期限切れ",
        "withdraw": "取り下げ",
    },
)  # fmt: skip

EN = Words(
    title="Hand-over of a lead",
    asks="Please look, then confirm with a button below. Opening this page has decided nothing.",
    why="Why it was handed over", score="Score at that time", owner="Owner", due="Due", stands="Status", sql_rule="The SQL rule",
    holds="holds", lacks="missing: {missing}",
    reason="Reason", note="Note (optional)", amount="Amount ({currency})", to="Pass on to", others="Answer something else",
    history="What has happened so far",
    done="Recorded as “{status}”. Thank you.",
    already="It was recorded as “{status}” already ({who}, {at}). Nothing has changed.",
    not_possible="That is not possible any more. It is “{status}” now ({who}, {at}).",
    closed="This hand-over is closed. If you would like to take the lead again, please tell marketing.",
    expired="Nobody answered in time, so the lead went back to marketing ({at}). To take it after all, please tell marketing.",
    moved="It has moved on while you looked: it is “{status}” now ({who}, {at}). Please look again.",
    passed_on="This lead was passed on to {owner}. Only its owner can answer.",
    lacking="Please check what you wrote.",
    needs_reason="Please check what you wrote: choose a reason.", needs_person="Please check what you wrote: choose a person.",
    wrong_amount="Please check what you wrote: an amount is digits only.",
    between=", ", name_and_firm=", ", brackets=" ({})",
    unknown_person="unknown",
    statuses={
        Status.OPEN: "waiting for an answer", Status.ACCEPTED: "accepted", Status.SQL: "SQL", Status.OPPORTUNITY: "opportunity",
        Status.WON: "won", Status.LOST: "lost", Status.REJECTED: "rejected", Status.RETURNED: "returned", Status.EXPIRED: "expired",
        Status.WITHDRAWN: "withdrawn",
    },
    confirm={
        Move.ACCEPT: "Accept this lead", Move.REJECT: "Reject this lead", Move.RETURN: "Return it to marketing",
        Move.SQL: "Judge it an SQL",
        Move.OPPORTUNITY: "Record it as an opportunity", Move.WON: "Record it as won", Move.LOST: "Record it as lost",
        Move.PASS: "Pass it on to somebody else",
    },
    happened={
        "open": "handed over", "joined": "handed over for another reason too", "reminded": "reminded", "escalated": "managers told",
        "accept": "accepted", "reject": "rejected", "return": "returned", "sql": "judged an SQL", "opportunity": "made an opportunity",
        "won": "won", "lost": "lost", "pass": "passed on", "expire": "expired", "withdraw": "withdrawn",
    },
)  # fmt: skip

WORDS: dict[Language, Words] = {"ja": JA, "en": EN}
