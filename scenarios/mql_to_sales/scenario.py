"""Tells sales of every new MQL on the next business morning, with the score and what it comes from."""

from mebae.authoring import *

scenario = Scenario(
    "mql-to-sales",
    title="MQLを営業へ",
    enters_on=qualified("mql"),
    re_enter="always",  # whoever comes back from sales and ripens again is told of again
    exits_when=lead.qualification != "mql",
    steps=[
        wait(business_days(1), at="09:00"),
        notify_sales("MQLになりました"),
        end("sales-told"),
    ],
)
