"""The rules of marketing mail, for all journeys and broadcasts. `mebae why EMAIL` says what they did to a lead's mails.

A mail says what it is about with `topic:`; leads choose topics on their preference page, under these titles.
"""

from mebae.mailing_language import *

mailing = Mailing(
    topics=[
        topic(
            "product",
            ja="製品のご案内",
            en="Product news",
            about={
                "ja": "機能の使い方、新しい機能、お取り組みの事例をお届けします。",
                "en": "How to use the product, what is new, and what others did with it.",
            },
        ),
        topic(
            "seminar",
            ja="セミナーのご案内",
            en="Seminars",
            about={"ja": "オンラインセミナーと展示会の開催をお知らせします。", "en": "Online seminars and fairs."},
        ),
        topic(
            "newsletter",
            ja="月刊ニュース",
            en="Newsletter",
            about={"ja": "月に一度、読みもの・事例・お知らせをまとめてお届けします。", "en": "Once a month: reading, cases, news."},
        ),
        # The answer to what the lead has just done: it comes at once, at night too, and uses up none of its mails.
        topic(
            "reply",
            ja="お申し込みへのご返信",
            en="Replies to your requests",
            about={"ja": "資料請求やお申し込みの直後にお送りするメールです。", "en": "What you get right after a request."},
            capped=False,
            at_any_time=True,
        ),
    ],
    # A lead in two journeys at once still gets no more than this.
    caps=[at_most(2, within=days(7)), at_most(6, within=days(30))],
    # By the clock on the lead's wall. To write on business days only: hours=between(…, on=business_days).
    hours=between("08:00", "20:00"),
)
