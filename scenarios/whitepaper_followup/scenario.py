"""Follows up on a white paper: thanks, then a mail by stage and score, then sales or a seminar by what the lead does."""

from mebae.authoring import *

scenario = Scenario(
    "whitepaper-followup",
    title="ホワイトペーパーDL後フォロー",
    enters_on=downloaded("whitepaper-*"),
    key=entry.content,  # one journey for each paper that the lead downloads
    audience=lead.industry_group.in_("manufacturing", "construction") & (lead.qualification == "none"),
    exits_when=lead.qualification == "sql",
    steps=[
        send("thanks"),
        wait(business_days(3), at="10:00"),
        branch(
            when(lead.stage.at_least("consideration"), [send("comparison")]),
            when(
                lead.score >= 50,
                [send(choose(lead.industry_group, {"manufacturing": "case-mfg"}, otherwise="case"), id="case-study")],
            ),
            otherwise=[send("basics")],
        ),
        wait_for(
            on(
                visited("/pricing"),
                [hand_to_sales("料金ページを閲覧", sql=[end("sql")], returned=[send("newsletter-offer")], expired=[end("expired")])],
            ),
            on(clicked("case-study"), [send("demo-invitation")]),
            within=days(7),
            otherwise=[send("seminar-invitation")],
        ),
    ],
)
