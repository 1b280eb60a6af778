"""The whole loop: who registers is nurtured by stage until it is ripe, goes to sales, and comes back when the time was not right."""

from mebae.authoring import *

scenario = Scenario(
    "stage-nurturing",
    title="ステージ別ナーチャリング",
    enters_on=submitted("library-registration"),
    # Competitors, students and whoever is out of the persona (scoring.py) get no content; nor does who is with sales already.
    audience=~any_of(*(lead.excluded.has(one) for one in ("競合", "学生", "ペルソナ外"))) & lead.qualification.in_("none", "lost"),
    exits_when=lead.qualification.in_("sql", "opportunity", "won"),
    steps=[
        send("welcome"),
        wait(business_days(3), at="10:00"),
        # Content by stage; whoever is ripe by now goes to sales instead.
        branch(
            when(lead.qualification == "mql", [go_to("sales")]),
            when(lead.stage.at_least("consideration"), [send_next("consultation", "seminar", id="deciding", otherwise=[end("all-sent")])]),
            when(lead.stage == "interest", [send_next(mail="recommendation", id="piece", otherwise=[end("all-read")])]),
            otherwise=[send_next("basics", "checklist", id="basics-series", otherwise=[end("all-sent")])],
            id="by-stage",
        ),
        wait_for(
            on(
                qualified("mql"),
                [hand_to_sales("MQLになりました", id="sales", sql=[end("sql")], returned=[send("stay-in-touch")])],
            ),
            on(
                answered(meeting=True),
                [
                    call_task(
                        "アンケートで面談を希望",
                        id="call",
                        due=hours(4),
                        script="課題と導入時期、決裁の流れを伺い、面談の日時を決める",
                        appointment=[go_to("sales")],
                        no_answer=[send("missed-you")],
                    ),
                ],
            ),
            within=days(7),
            otherwise=[go_to("by-stage")],
            id="reaction",
        ),
        # Not now: nothing for two weeks. The reason's own rest says when sales can be given the lead again.
        wait(days(14), at="10:00", on=business_days, id="rest"),
        go_to("by-stage"),
    ],
)
