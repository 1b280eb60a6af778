"""Gives every new MQL to sales on the next business morning; one that a person or another scenario has just handed over is there."""

from mebae.authoring import *

scenario = Scenario(
    "mql-to-sales",
    title="MQLを営業へ",
    enters_on=qualified("mql"),
    audience=did_not(handed_over(), within=days(1)),  # being handed over makes an MQL too
    re_enter="always",  # whoever comes back from sales and ripens again is handed over again
    exits_when=lead.qualification != "mql",
    steps=[
        wait(business_days(1), at="09:00"),
        hand_to_sales("MQLになりました", sql=[end("sql")]),
        end("back"),
    ],
)
