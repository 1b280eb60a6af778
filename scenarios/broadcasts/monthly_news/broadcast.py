"""The monthly newsletter: to everybody in our industries, on the first business day of a month.

A fifth of the leads tries two subjects; four hours later the others get the one with more clicks. One lead in twenty gets
no mail at all, which shows after some months what the newsletter does (`mebae broadcasts show monthly-news`).
"""

from mebae.broadcasts_language import *

broadcast = Broadcast(
    "monthly-news",
    title="月刊ニュース",
    to=segment("target-industries"),
    mail="news",
    schedule=every_month(day=1, at="10:00", on=business_days),
    ab=ab_test(
        subject(ja="3分で読める今月のまとめ：点検記録のいま", en="This month in three minutes: inspection records"),
        share=20,
        after=hours(4),
    ),
    holdout=5,
)
