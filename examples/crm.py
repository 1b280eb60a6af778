"""Which systems leads go to, and what comes back: an example. Put it into scenarios/ as crm.py, and leave out what you do not have.

Secrets are never here: each name in capitals is a variable of the environment, for the worker (and, of `inbound`, for the server).
`mebae check` reads the file, `mebae crm test` asks each system whether credentials and fields are right. See docs/how-to/crm.md.
"""

from mebae.crm_language import *

crm = Crm(
    systems=[
        hubspot(
            "hubspot",
            token="HUBSPOT_TOKEN",
            inbound="HUBSPOT_CLIENT_SECRET",
            key_field="mebae_key",
            fields={
                "lastname": "last_name",
                "firstname": "first_name",
                "company": "company",
                "jobtitle": "title",
                "mebae_score": "score",
                "mebae_fit": "fit",
                "mebae_engagement": "engagement",
                "mebae_reasons": "reasons",
                "mebae_behaviour": "behaviour",
                "mebae_stage": choice("stage", {"awareness": "認知", "interest": "興味", "consideration": "検討"}),
                "mebae_qualification": "qualification",
                "mebae_budget": "lead.budget",
            },
            send=sending(at_once=["stage", "qualification", "handover", "call"], every=minutes(30), only=lead.score >= 30),
            outcomes=outcomes(
                {"lifecyclestage": {"salesqualifiedlead": "sql", "opportunity": "opportunity", "customer": "won"},
                 "hs_lead_status": {"UNQUALIFIED": "return", "BAD_TIMING": "return"}},
                amount="recent_deal_amount",
                every=minutes(15),
            ),
        ),
        salesforce(
            "salesforce",
            host="example.my.salesforce.com",
            client_id="SALESFORCE_CLIENT_ID",
            client_secret="SALESFORCE_CLIENT_SECRET",
            lead_key="Mebae_Id__c",
            task_key="Mebae_Key__c",
            fields={
                "LastName": value("last_name", otherwise="（未登録）"),
                "FirstName": "first_name",
                "Company": value("company", otherwise="（未登録）"),
                "Title": "title",
                "LeadSource": "first_source",
                "Mebae_Score__c": "score",
                "Mebae_Reasons__c": "reasons",
            },
            send=sending(every=minutes(30), only=lead.score >= 30),
            outcomes=outcomes(
                {"ConvertedOpportunity.StageName": {"Closed Won": "won", "Closed Lost": "lost", "Qualification": "opportunity"},
                 "Status": {"Qualified": "sql", "Unqualified": "return"}},
                amount="ConvertedOpportunity.Amount",
                reason="ConvertedOpportunity.Loss_Reason__c",
                reasons={"時期尚早": "too-early", "予算なし": "no-budget", "競合に決定": "competitor-chosen"},
                every=minutes(15),
            ),
        ),
        kintone(
            "kintone",
            host="example.cybozu.com",
            app=12,
            token="KINTONE_TOKEN",
            key="mebae番号",
            inbound="KINTONE_WEBHOOK_TOKEN",
            activities=(13, {"key": "キー", "lead": "mebae番号", "title": "件名", "body": "内容", "at": "日時", "due": "期限"}),
            activities_token="KINTONE_ACTIVITIES_TOKEN",
            fields={"会社名": "company", "氏名": "name", "役職": "title", "メール": "email", "スコア": "score", "根拠": "reasons"},
            send=sending(every=hours(1), only=lead.score >= 30),
            outcomes=outcomes(
                {"ステータス": {"商談中": "opportunity", "受注": "won", "失注": "lost", "対象外": "return"}},
                amount="受注金額",
                reason="失注理由",
                reasons={"時期尚早": "too-early", "予算なし": "no-budget", "競合に決定": "competitor-chosen"},
                every=minutes(15),
            ),
        ),
        webhook(
            "datahub",
            host="hooks.example.jp",
            url="DATAHUB_URL",
            secret="DATAHUB_SECRET",
            inbound="DATAHUB_INBOUND_SECRET",
        ),
    ]
)
