"""Saved conditions on leads. `mebae segments` counts them, and a scenario starts with `joined("dormant")`.

Every morning the sweep looks who has become a member since the last time. Who is no member any more can become one again.
"""

from mebae.segments_language import *

quiet_for_sales = ~lead.contacted_at.is_known() | lead.contacted_at.older_than(days(180))

segments = [
    # Nothing that a person did for half a year, nor a word of sales; of who never did anything, since it is known.
    Segment("dormant", title="休眠(180日)", when=lead.active_at.older_than(days(180)) & quiet_for_sales),
    Segment("hot", title="50点以上", when=lead.score >= 50),
    Segment("target-industries", title="製造・建設", when=lead.industry_group.in_("manufacturing", "construction")),
    Segment(
        "mql-without-reaction",
        title="MQLになって30日反応なし",
        when=(lead.qualification == "mql")
        & ~did(qualified("mql"), within=days(30))
        & lead.active_at.older_than(days(30)),
    ),
]
