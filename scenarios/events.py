"""The events that this team uses, with their properties: what the web site, the product and the imports send.

The standard events (docs/reference/scenario-language.md) are in the plan anyway; here they get their Japanese titles and
the values that we agreed on. `mebae check` holds scenarios, scoring and segments to it, `mebae events` what really came.
An event that is not here is kept and counted all the same.
"""

from mebae.tracking_language import *

plan = Plan(
    events=[
        event(
            "Content Downloaded",
            title="資料ダウンロード",
            properties={"content": one_of("whitepaper-*", "catalogue-*", "case-*", title="資料", required=True)},
        ),
        event(
            "Page Viewed",
            title="ページ閲覧",
            properties={
                "path": text(title="パス", required=True),
                "seconds": number(title="閲覧秒数"),
            },
        ),
        event(
            "Form Submitted",
            title="フォーム送信",
            properties={
                "form": text(title="フォーム", required=True),
                "message": text(title="お問い合わせ内容"),
                "department": text(title="部署名"),
                "timeframe": text(title="導入時期"),
            },
        ),
        event(
            "Form Answered",
            title="アンケート回答",
            properties={
                "form": text(title="アンケート"),
                "budget": one_of("確保済み", "検討中", "なし", title="予算"),
                "timing": one_of("3か月以内", "半年以内", "未定", title="導入時期"),
                "decision_maker": boolean(title="決裁者"),
                "meeting": boolean(title="面談希望"),
            },
        ),
        event(
            "Seminar Registered",
            title="セミナー申込",
            properties={"seminar": text(title="セミナー", required=True), "starts_at": date(title="開催日時")},
        ),
        event(
            "Seminar Attended",
            title="セミナー参加",
            properties={"seminar": text(title="セミナー", required=True), "minutes": number(title="視聴分数")},
        ),
        event("Quote Requested", title="見積依頼", properties={"product": text(title="製品"), "quantity": number(title="数量")}),
        event("Sales Contacted", title="営業接触", properties={"channel": one_of("phone", "mail", "visit", "online", title="手段")}),
        # Our own: what the product tells of a trial.
        event(
            "Trial Started",
            title="トライアル開始",
            properties={
                "plan": one_of("team", "business", title="プラン", required=True),
                "seats": number(title="席数"),
                "ends_at": date(title="終了日"),
            },
        ),
        event("Trial Ended", title="トライアル終了", properties={"plan": one_of("team", "business", title="プラン")}),
    ],
)  # fmt: skip
