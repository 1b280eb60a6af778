"""Gives every new MQL to sales on the next business morning; one that another scenario has handed over already is not told twice."""

from mebae.authoring import *

scenario = Scenario(
    "mql-to-sales",
    title="MQLを営業へ",
    enters_on=qualified("mql"),
    re_enter="always",  # whoever comes back from sales and ripens again is handed over again
    exits_when=lead.qualification != "mql",
    steps=[
        wait(business_days(1), at="09:00"),
        hand_to_sales("MQLになりました", sql=[end("sql")]),
        end("back"),
    ],
)
