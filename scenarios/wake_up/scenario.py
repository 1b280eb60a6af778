"""Wakes leads that have been quiet for half a year: one short mail, and a second for those who react."""

from mebae.authoring import *

scenario = Scenario(
    "wake-up",
    title="休眠リードの掘り起こし",
    enters_on=joined("dormant"),
    re_enter=after(days(365)),
    audience=lead.qualification.in_("none", "lost"),
    exits_when=lead.qualification == "mql",
    starts_at_most=per_day(500),  # the first sweep of an old list finds thousands
    steps=[
        send("still-there"),
        wait_for(
            on(clicked("still-there"), [send("news")]),
            within=days(14),
            otherwise=[end("quiet")],
        ),
    ],
)
