"""How leads are scored: points for what they are and what they do, stages, and when sales hears of them.

Every value here is yours to change. Titles and industries are mapped by `mapping.csv` beside this file.
"""

from mebae.scoring_language import *

scoring = Scoring(
    ranks=["担当者", "係長", "課長", "部長", "役員"],
    fit=[
        fit("部長以上", lead.rank.at_least("部長"), 20, en="Head of department or above"),
        fit("課長", lead.rank == "課長", 10, en="Section manager"),
        fit("担当者", lead.rank.in_("担当者", "係長"), 5, en="Staff"),
        fit("ターゲット業種", lead.industry_group.in_("manufacturing", "construction"), 15, en="Target industry"),
        fit("近い業種", lead.industry_group.in_("logistics", "wholesale", "energy"), 5, en="Near industry"),
        fit("従業員50名以上", lead.company_size >= 50, 10, en="50 employees or more"),
    ],
    engagement=[
        # Two papers count; the same paper twice is one.
        engagement(
            "ホワイトペーパー", downloaded("whitepaper-*"), 20,
            at_most=2, once_for=event.content, half_life=days(90), en="White paper",
        ),
        engagement("料金ページ", visited("/pricing"), 30, at_most=1, half_life=days(90), en="Pricing page"),
        # Opens of scanners and privacy proxies never count.
        engagement("メール開封", opened(), 5, at_most=2, per=days(30), half_life=days(30), en="Mail opened"),
        engagement("メールクリック", clicked(), 10, at_most=2, per=days(30), half_life=days(60), en="Mail clicked"),
        engagement("セミナー参加", attended(), 40, at_most=2, once_for=event.seminar, half_life=days(180), en="Seminar attended"),
        engagement(
            "製品ページを複数回閲覧", visits("/products/*", times=3, within=days(14)), 15,
            half_life=days(60), en="Product pages, several visits",
        ),
        engagement(
            "製品ページを熟読", visited("/products/*"), graded(event.seconds, {60: 2, 180: 5}),
            at_most=3, per=days(30), half_life=days(60), en="Product pages, read closely",
        ),
        engagement("見積依頼", requested_quote(), 50, at_most=1, half_life=days(90), en="Quote requested"),
        # Of answers the last one counts.
        engagement(
            "予算", answered(), by(event.budget, {"確保済み": 20, "検討中": 10, "なし": 0}),
            at_most=1, half_life=days(180), en="Budget",
        ),
        engagement(
            "導入時期", answered(), by(event.timing, {"3か月以内": 20, "半年以内": 10, "未定": 0}),
            at_most=1, half_life=days(90), en="Timing",
        ),
        engagement("決裁者", answered(decision_maker=True), 15, at_most=1, en="Decides"),
        engagement("採用ページ", visited("/careers*"), -20, at_most=1, half_life=days(180), en="Careers page"),
    ],
    exclusions=[
        exclude("競合", lead.tags.has("competitor") | lead.email.like("*@competitor.example")),
        exclude("学生", lead.tags.has("student") | lead.title.like("*学生*")),
        exclude("ペルソナ外", lead.tags.has("out-of-persona")),
    ],
    stages=[
        stage("awareness", title="認知"),
        stage(
            "interest", title="興味",
            when=(lead.score >= 50) | (did(visited("/blog/*"), times=3) & did(downloaded())),
        ),
        stage("consideration", title="検討", when=(lead.score >= 80) | did(visited("/pricing"), times=2)),
    ],
    qualifications=[
        qualify(
            "mql",
            when=((lead.score >= 100) & did(visited("/pricing"))) | ((lead.score >= 80) & did(attended())),
        ),
        # Sales has taken the lead, and has heard of a need with a budget or a date.
        qualify(
            "sql",
            when=(lead.qualification == "accepted")
            & any_of(did(requested_quote()), did(answered(budget="確保済み")), did(answered(timing="3か月以内"))),
        ),
    ],
    topics=[
        topic("automation", downloaded("*automation*"), visited("/products/automation*"), visited("/blog/automation*")),
        topic("quality", downloaded("*quality*"), visited("/products/quality*"), visited("/blog/quality*")),
        topic("cost", downloaded("*cost*"), visited("/pricing"), times=2, within=days(90)),
    ],
)  # fmt: skip
