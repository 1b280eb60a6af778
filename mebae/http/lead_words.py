"""What the leads' own pages say, in Japanese and English."""

from __future__ import annotations

from typing import Literal, NamedTuple

from fastapi import Request

Language = Literal["ja", "en"]


class Words(NamedTuple):
    """One language."""

    language: Language
    stop_title: str
    stop_text: str
    stop_button: str
    stop_topic_button: str
    stop_note: str
    to_preferences: str
    stopped_title: str
    stopped_text: str
    already_title: str
    already_text: str
    undo_text: str
    resume_button: str
    resumed_title: str
    resumed_text: str
    cannot_resume: str
    topic_stopped_title: str
    topic_stopped_text: str
    preferences_title: str
    preferences_text: str
    topics_legend: str
    language_legend: str
    save_button: str
    saved: str
    stop_all_title: str
    stop_all_text: str
    contact: str
    you: str
    unknown: tuple[str, str]
    later: tuple[str, str]
    nothing: tuple[str, str]
    unreadable: tuple[str, str]
    gone: tuple[str, str]


JA = Words(
    language="ja",
    stop_title="メール配信の停止",
    stop_text="{who}宛てのご案内メールの配信を停止します。よろしいですか？",
    stop_button="配信を停止する",
    stop_topic_button="「{topic}」のメールだけを停止する",
    stop_note="お申し込みいただいた資料の送付など、お手続きに必要なメールは、停止後もお送りすることがあります。",
    to_preferences="受け取るメールの内容を選ぶ",
    stopped_title="配信を停止しました",
    stopped_text="{who}宛てのご案内メールは、今後お送りしません。これまでお読みいただき、誠にありがとうございました。",
    already_title="配信は停止されています",
    already_text="{who}宛てのご案内メールの配信は、すでに停止されています。",
    undo_text="誤って停止された場合は、次のボタンで元に戻せます。",
    resume_button="配信を再開する",
    resumed_title="配信を再開しました",
    resumed_text="今後も{who}宛てにご案内メールをお送りします。",
    cannot_resume="このページからは配信を再開できません。お手数ですが、下記までご連絡ください。",
    topic_stopped_title="「{topic}」のメールを停止しました",
    topic_stopped_text="{who}宛ての、このテーマのメールは今後お送りしません。ほかのご案内は引き続きお送りします。",
    preferences_title="メール配信の設定",
    preferences_text="{who}宛てにお送りするメールの内容を選べます。",
    topics_legend="受け取るテーマ",
    language_legend="メールの言語",
    save_button="設定を保存する",
    saved="設定を保存しました。",
    stop_all_title="すべてのご案内メールを停止する",
    stop_all_text="テーマにかかわらず、ご案内メールをお送りしないようにします。",
    contact="お問い合わせ",
    you="お客さま",
    unknown=(
        "ページが見つかりません",
        "リンクが正しくないか、有効期限が切れています。メールのリンクが途中で切れていないかご確認ください。",
    ),
    later=("ただいま処理できません", "お手数ですが、しばらくしてからもう一度お試しください。"),
    nothing=("このページには何もありません", "メールの自動検査を見分けるためのリンクです。"),
    unreadable=("送信内容を読み取れませんでした", "お手数ですが、前のページに戻ってもう一度お試しください。"),
    gone=("このメールは表示できません", "内容を表示するための情報が、すでに残っていません。"),
)

EN = Words(
    language="en",
    stop_title="Unsubscribe",
    stop_text="We will stop sending mail to {who}. Is that what you want?",
    stop_button="Unsubscribe",
    stop_topic_button="Stop only mail about “{topic}”",
    stop_note="Mail that you ask for yourself, such as a paper you request, may still be sent.",
    to_preferences="Choose what you receive",
    stopped_title="You are unsubscribed",
    stopped_text="We will not send any more mail to {who}. Thank you for having read us.",
    already_title="You are already unsubscribed",
    already_text="No more mail is sent to {who}.",
    undo_text="If this was a mistake, you can undo it.",
    resume_button="Resubscribe",
    resumed_title="You are subscribed again",
    resumed_text="We will keep sending mail to {who}.",
    cannot_resume="You cannot subscribe again on this page. Please contact us at the address below.",
    topic_stopped_title="No more mail about “{topic}”",
    topic_stopped_text="We will not write to {who} about this topic any more. Other mail continues.",
    preferences_title="Mail preferences",
    preferences_text="Choose what we may send to {who}.",
    topics_legend="Topics you want to hear about",
    language_legend="Language of our mail",
    save_button="Save",
    saved="Your preferences are saved.",
    stop_all_title="Unsubscribe from everything",
    stop_all_text="We will not write to you any more, whatever the topic.",
    contact="Contact",
    you="you",
    unknown=(
        "There is no such page",
        "The link is not right or has expired. Please check that it was not cut off in your mail program.",
    ),
    later=("We cannot do that right now", "Please try again in a moment."),
    nothing=("There is nothing here", "This link tells automatic mail scanners from readers."),
    unreadable=("We could not read that", "Please go back and try again."),
    gone=("This mail cannot be shown", "What is needed to show it is not kept any more."),
)

WORDS: dict[str, Words] = {"ja": JA, "en": EN}


def language_asked(request: Request, *known: str | None) -> Language:
    """The first known language that we have; else the one that the browser prefers; else Japanese, or English for whoever
    is known to read something else."""
    for one in known:
        if (found := _ours(one or "")) is not None:
            return found
    asked: list[tuple[float, int, str]] = []
    for place, part in enumerate(request.headers.get("accept-language", "")[:500].split(",")):
        tag, _, quality = part.strip().partition(";q=")
        try:
            asked.append((-float(quality or 1), place, tag))
        except ValueError:
            continue
    for _, _, tag in sorted(asked):
        if (found := _ours(tag)) is not None:
            return found
    return "en" if any(known) else "ja"


def _ours(tag: str) -> Language | None:
    match tag.strip().lower()[:2]:
        case "ja":
            return "ja"
        case "en":
            return "en"
        case _:
            return None
