"""The rules of hand-over: who sells, whose a lead is, by when sales answers, and what each reason means."""

from mebae.sales_language import *

sales = Sales(
    people=[
        person("inoue", "井上 さくら", "inoue@mebae.example"),
        person("inada", "稲田 翔", "inada@mebae.example"),
        person("hara", "原 健", "hara@mebae.example", role="field"),
        person("mori", "森 恵", "mori@mebae.example", role="manager"),
    ],
    territories=[territory(lead.company_size >= 1000, "hara")],
    hand_over_mqls=False,  # the scenario mql-to-sales tells of them; with True each is given to sales at once
    response=deadline(business_days(1), escalate_after=business_days(1), expire_after=business_days(3)),
    judgement=deadline(business_days(10), escalate_after=business_days(3), expire_after=business_days(10)),
    reasons=[
        reason("too-early", "時期尚早", en="Too early", rest=days(90)),
        reason("no-budget", "予算なし", en="No budget", rest=days(90)),
        reason("no-need", "ニーズなし", en="No need", rest=days(90)),
        reason("no-contact", "連絡がつかない", en="Cannot be reached", of=["reject", "return"]),
        reason("competitor-chosen", "競合に決定", en="Chose a competitor", rest=days(180), of=["lost"]),
        reason("other", "その他", en="Other"),
    ],
    rest=days(30),
    sql=lead.score >= 80,
    open=between("09:00", "18:00"),
    digest=digest(every="fri", at="09:00", when=lead.score >= 50),
)
