"""What every adapter must do, against a local server that checks requests by the published API; then what only one of them does."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mebae.crm import adapter
from mebae.crm.adapter import CODES, Activity, Adapter, CrmAway, Done, Later, Record, Refused, Task
from mebae.crm.channel import upsert
from mebae.crm.model import System
from mebae.crm.wiring import adapter_of
from mebae.crm_language import hubspot, kintone, outcomes, salesforce
from tests.crm.doubles import Double, HubSpotDouble, KintoneDouble, SalesforceDouble
from tests.crm.site import Said, running
from tests.leads import NOW


@dataclass(frozen=True)
class House:
    """One of the three."""

    double: Callable[[], Double]
    system: Callable[[Double], System]
    environ: dict[str, str]
    name: str
    """Their field for the firm."""
    outcome: str
    changed: str


def a_hubspot(site: Double, **more: Any) -> System:
    given = {
        "fields": {"lastname": "last_name", "company": "company", "mebae_score": "score"},
        "outcomes": outcomes({"lifecyclestage": {"customer": "won", "salesqualifiedlead": "sql"}}, amount="deal_amount"),
        "key_field": "mebae_key",
    }  # fmt: skip
    return hubspot("hubspot", token="HS", url=site.url, private=True, inbound="HS_IN", **(given | more))  # type: ignore[arg-type]


def a_kintone(site: Double, **more: Any) -> System:
    given = {
        "fields": {"氏名": "name", "会社名": "company", "スコア": "score"}, "key": "リード番号",
        "activities": (13, {"key": "キー", "lead": "リード", "title": "件名", "body": "内容", "at": "日時", "due": "期限"}),
        "outcomes": outcomes({"状態": {"受注": "won", "失注": "lost"}}, reason="失注理由", amount="受注金額"),
    }  # fmt: skip
    return kintone(
        "kintone", host="example.cybozu.com", app=12, token="KT", activities_token="AT", url=site.url, private=True, inbound="KT_IN",
        **(given | more),
    )  # type: ignore[arg-type]  # fmt: skip


def a_salesforce(site: Double, **more: Any) -> System:
    given = {
        "fields": {"LastName": "last_name", "Company": "company", "Mebae_Score__c": "score"}, "task_key": "Mebae_Key__c",
        "outcomes": outcomes(
            {"ConvertedOpportunity.StageName": {"Closed Won": "won"}, "Status": {"Qualified": "sql"}}, amount="ConvertedOpportunity.Amount"
        ),
    }  # fmt: skip
    return salesforce(
        "sf", host="example.my.salesforce.com", client_id="SF_ID", client_secret="SF_SECRET", url=site.url, private=True, **(given | more)
    )  # type: ignore[arg-type]


HOUSES = {
    "hubspot": House(HubSpotDouble, a_hubspot, {"HS": HubSpotDouble.token}, "company", "lifecyclestage", "customer"),
    "kintone": House(KintoneDouble, a_kintone, {"KT": "KTOKEN", "AT": "ATOKEN"}, "会社名", "状態", "受注"),
    "salesforce": House(SalesforceDouble, a_salesforce, {"SF_ID": "3MVG9", "SF_SECRET": "8A4BE"}, "Company", "Status", "Qualified"),
}


@pytest.fixture(params=list(HOUSES))
def house(request: pytest.FixtureRequest) -> House:
    return HOUSES[request.param]


def record(house: House, lead: int = 1, **values: Any) -> Record:
    own = {"hubspot": {"lastname": "佐藤"}, "kintone": {"氏名": "佐藤"}, "salesforce": {"LastName": "佐藤"}}
    of = next(name for name, one in HOUSES.items() if one is house)
    return Record(f"crm-lead-{lead}-1", lead, f"lead{lead}@example.jp", own[of] | {house.name: "青葉精機"} | values)


def activity(their_id: str, key: str = "crm-x-handover-1-1-opened-activity", **more: Any) -> Activity:
    return Activity(key, 1, "lead1@example.jp", their_id, "opened", "営業へ引き渡し", "料金ページを閲覧\n<b>80 点", NOW, **more)


async def with_adapter(house: House, site: Double, **environ: str) -> Adapter:
    return adapter_of(house.system(site), house.environ | environ)


async def test_lead_is_made_then_updated_under_the_same_id(house: House) -> None:
    async with running(house.double()) as site:
        adapter = await with_adapter(house, site)
        [made] = await adapter.upsert_leads([record(house)])
        assert isinstance(made, Done)
        assert made.created
        [again] = await adapter.upsert_leads([record(house, **{house.name: "青葉精機株式会社"})])
        assert isinstance(again, Done)
        assert (again.id, again.created) == (made.id, False)
        assert [one[house.name] for one in site.records.values()] == ["青葉精機株式会社"]
        await adapter.aclose()


async def test_many_leads_go_together_and_each_has_its_own_answer(house: House) -> None:
    async with running(house.double()) as site:
        adapter = await with_adapter(house, site)
        batch = [record(house, n) for n in range(1, 61)]
        answers = await upsert(adapter, batch)
        ids = [one.id for one in answers if isinstance(one, Done)]
        assert site.batches == [60]
        assert len(set(ids)) == 60
        for id, one in zip(ids, batch, strict=True):
            assert {one.email, str(one.lead)} & set(site.records[str(id)].values())
        await adapter.aclose()


async def test_one_lead_that_is_refused_takes_nobody_with_it(house: House) -> None:
    async with running(house.double()) as site:
        adapter = await with_adapter(house, site)
        batch = [record(house, n, **({house.name: "refused"} if n == 5 else {})) for n in range(1, 12)]
        answers = await upsert(adapter, batch)
        assert [type(one) for one in answers] == [Refused if n == 5 else Done for n in range(1, 12)]
        wrong = answers[4]
        assert isinstance(wrong, Refused)
        assert wrong.code == "crm-invalid"
        assert wrong.raw
        await adapter.aclose()


async def test_field_that_is_not_there_is_refused_and_named(house: House) -> None:
    async with running(house.double()) as site:
        adapter = await with_adapter(house, site)
        [answer] = await adapter.upsert_leads([record(house, nowhere="x")])
        assert isinstance(answer, Refused)
        assert answer.code == "crm-invalid"
        assert "nowhere" in answer.raw
        await adapter.aclose()


async def test_credentials_that_are_wrong_are_asked_for_later_and_nothing_is_lost(house: House) -> None:
    async with running(house.double()) as site:
        adapter = await with_adapter(house, site, HS="wrong", KT="wrong", SF_SECRET="wrong")
        [answer] = await upsert(adapter, [record(house)])
        assert isinstance(answer, Later)
        assert answer.code == "crm-credentials"
        assert (answer.after or timedelta()) >= timedelta(minutes=15)
        with pytest.raises(CrmAway):
            await adapter.check()
        await adapter.aclose()


@pytest.mark.parametrize(
    ("said", "code", "after"),
    [
        (Said(429, {"status": "error", "message": "limit"}, {"Retry-After": "7"}), "crm-busy", timedelta(seconds=7)),
        (Said(503, b"<html>maintenance</html>"), "crm-away", None),
        (Said(500, None), "crm-away", None),
    ],
)
async def test_no_of_now_is_said_as_that(house: House, said: Said, code: str, after: timedelta | None) -> None:
    async with running(house.double()) as site:
        adapter = await with_adapter(house, site)
        await adapter.upsert_leads([record(house)])
        site.away = said
        [answer] = await upsert(adapter, [record(house)])
        assert isinstance(answer, Later)
        assert (answer.code, answer.after) == (code, after)
        await adapter.aclose()


async def test_answer_that_is_lost_makes_no_second_activity_and_no_second_task(house: House) -> None:
    async with running(house.double()) as site:
        adapter = await with_adapter(house, site)
        [made] = await adapter.upsert_leads([record(house)])
        assert isinstance(made, Done)
        note, task = activity(made.id or ""), Task(**vars(activity(made.id or "", "crm-task-1")), due=NOW + timedelta(days=1))
        for tell in (lambda: adapter.push_activity(note), lambda: adapter.create_task(task)):
            site.cuts = 1
            with pytest.raises(CrmAway):
                await tell()
            answer = await tell()
            assert isinstance(answer, Done), answer
        assert len(site.activities) == 2
        await adapter.aclose()


async def test_what_changed_is_read_by_the_page_the_oldest_first(house: House) -> None:
    async with running(house.double()) as site:
        adapter = await with_adapter(house, site)
        await upsert(adapter, [record(house, n) for n in range(1, 31)])
        ids = list(site.records)
        if isinstance(site, SalesforceDouble):
            site.page = 10
        for id in ids[3:28]:
            site.change(id, **{house.outcome: house.changed})
        pages = [page async for page in adapter.pull_changes(NOW + timedelta(minutes=1))]
        assert [one.id for page in pages for one in page] == ids[3:28]
        assert {one.values[house.outcome] for page in pages for one in page} == {house.changed}
        assert pages[-1][-1].at == NOW + timedelta(minutes=25)
        [one] = await adapter.read([ids[4], "00Q999999999999"])
        assert (one.id, one.values[house.outcome]) == (ids[4], house.changed)
        await adapter.aclose()


async def test_check_says_what_is_right_and_what_is_missing_and_makes_nothing(house: House) -> None:
    async with running(house.double()) as site:
        adapter = await with_adapter(house, site)
        assert [one.what for one in await adapter.check() if not one.ok] == []
        site.fields -= {house.name, "Mebae_Id__c"}
        missing = [one for one in await adapter.check() if not one.ok]
        assert any(house.name in one.what for one in missing)
        assert all(one.cure for one in missing)
        assert {asked.method for asked in site.asked if "oauth2" not in asked.path} == {"GET"}
        assert site.records == {}
        await adapter.aclose()


# Only HubSpot, kintone, Salesforce -----------------------------------------------------------------------------------------


async def test_hubspot_note_is_text_and_no_markup_of_the_leads() -> None:
    async with running(HubSpotDouble()) as site:
        adapter = adapter_of(a_hubspot(site, owners={"inoue": "77"}), {"HS": HubSpotDouble.token})
        [made] = await adapter.upsert_leads([record(HOUSES["hubspot"], mebae_score=80)])
        assert isinstance(made, Done)
        await adapter.push_activity(activity(made.id or "", owner="77"))
        [note] = site.activities
        assert note["hs_note_body"] == "<strong>営業へ引き渡し</strong><br>料金ページを閲覧<br>&lt;b&gt;80 点"
        assert (note["hubspot_owner_id"], note["hs_timestamp"], note["mebae_key"]) == (
            "77", "2026-04-10T01:00:00.000Z", "crm-x-handover-1-1-opened-activity",
        )  # fmt: skip
        assert site.records[made.id or ""]["mebae_score"] == "80"
        await adapter.aclose()


@pytest.mark.parametrize(("policy", "span"), [("TEN_SECONDLY_ROLLING", timedelta(seconds=10)), ("DAILY", timedelta(minutes=15))])
async def test_hubspot_limit_without_retry_after_is_told_by_its_policy(policy: str, span: timedelta) -> None:
    async with running(HubSpotDouble()) as site:
        adapter = adapter_of(a_hubspot(site), {"HS": HubSpotDouble.token})
        site.away = Said(429, {"status": "error", "errorType": "RATE_LIMIT", "policyName": policy})
        [answer] = await adapter.upsert_leads([record(HOUSES["hubspot"])])
        assert isinstance(answer, Later)
        assert answer.after == span
        await adapter.aclose()


async def test_salesforce_token_that_ran_out_is_asked_for_anew_and_its_other_address_is_not_followed() -> None:
    async with running(SalesforceDouble()) as site:
        adapter = adapter_of(a_salesforce(site), HOUSES["salesforce"].environ)
        await adapter.upsert_leads([record(HOUSES["salesforce"])])
        site.worn = True
        [answer] = await adapter.upsert_leads([record(HOUSES["salesforce"])])
        assert isinstance(answer, Done)
        assert site.tokens == 2
        await adapter.aclose()


async def test_salesforce_says_by_its_codes_what_passes_and_what_does_not() -> None:
    async with running(SalesforceDouble()) as site:
        adapter = adapter_of(a_salesforce(site), HOUSES["salesforce"].environ)
        one = record(HOUSES["salesforce"])
        site.locked = 1
        assert [answer.code for answer in await adapter.upsert_leads([one]) if isinstance(answer, Later)] == ["crm-locked"]
        [made] = await adapter.upsert_leads([one])
        assert isinstance(made, Done)
        site.records[made.id or ""]["IsConverted"] = True
        assert [answer.code for answer in await adapter.upsert_leads([one]) if isinstance(answer, Refused)] == ["crm-converted"]
        site.away = Said(403, [{"message": "TotalRequests Limit exceeded.", "errorCode": "REQUEST_LIMIT_EXCEEDED"}])
        assert [answer.code for answer in await adapter.upsert_leads([one]) if isinstance(answer, Later)] == ["crm-busy"]
        await adapter.aclose()


async def test_salesforce_deal_of_a_converted_lead_is_read_with_it() -> None:
    async with running(SalesforceDouble()) as site:
        adapter = adapter_of(a_salesforce(site), HOUSES["salesforce"].environ)
        [made] = await adapter.upsert_leads([record(HOUSES["salesforce"])])
        assert isinstance(made, Done)
        deal = {"StageName": "Closed Won", "Amount": 1200000.0, "SystemModstamp": "2026-04-12T01:00:00.000+0000"}
        site.change(made.id or "", Status="Converted", ConvertedOpportunity=deal)
        [one] = await adapter.read([made.id or ""])
        stage, amount = "ConvertedOpportunity.StageName", "ConvertedOpportunity.Amount"
        assert one.values == {stage: "Closed Won", "Status": "Converted", amount: "1200000"}
        assert one.at == NOW + timedelta(days=2)
        await adapter.aclose()


async def test_kintone_locked_record_comes_again_and_an_app_that_is_gone_does_not() -> None:
    async with running(KintoneDouble()) as site:
        adapter = adapter_of(a_kintone(site), HOUSES["kintone"].environ)
        for said, kind, code in (
            (Said(520, {"code": "GAIA_DA02", "message": "…"}), Later, "crm-locked"),
            (Said(404, {"code": "GAIA_AP01", "message": "…"}), Refused, "crm-not-there"),
            (Said(403, {"code": "CB_NO02", "message": "…"}), Later, "crm-credentials"),
            (Said(520, {"code": "GAIA_XX99", "message": "…"}), Later, "crm-away"),
        ):
            site.away = said
            [answer] = await adapter.upsert_leads([record(HOUSES["kintone"])])
            assert isinstance(answer, (Later, Refused))
            assert (type(answer), answer.code) == (kind, code)
        await adapter.aclose()


def test_every_code_of_an_adapter_is_explained() -> None:
    texts = [path.read_text() for path in Path(adapter.__file__).parent.glob("*.py")]
    said = {code for one in texts for code in re.findall(r'"(crm-[a-z]+(?:-[a-z]+)*)"', one)}
    assert said == set(CODES)
