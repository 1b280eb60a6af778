"""`scenarios/crm.py`: what is written, what is refused with every problem at once, and that no secret can stand there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mebae.crm.model import CrmRules
from mebae.crm_language import hubspot, outcomes, sending, webhook
from mebae.crm_loading import load_crm
from mebae.errors import AuthoringError, ScenarioError
from mebae.timing import Duration

ROOT = Path(__file__).parents[2]


def load(tmp_path: Path, text: str) -> CrmRules | None:
    (tmp_path / "crm.py").write_text("from mebae.crm_language import *\n" + text)
    return load_crm(tmp_path)


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ScenarioError) as refused:
        load(tmp_path, text)
    return [one.message for one in refused.value.problems]


def test_the_example_is_good_and_survives_the_database(tmp_path: Path) -> None:
    shutil.copy(ROOT / "examples" / "crm.py", tmp_path / "crm.py")
    rules = load_crm(tmp_path)
    assert rules is not None
    assert [one.kind for one in rules.systems] == ["hubspot", "salesforce", "kintone", "webhook"]
    assert CrmRules.load(rules.dump()) == rules
    assert "ACTIVITIES" in rules.systems[2].secrets["activities_token"]


def test_which_leads_go_may_be_any_condition(tmp_path: Path) -> None:
    only = 'send=sending(only=~lead.tags.has("test"))'
    text = f'crm = Crm(systems=[webhook("w", host="crm.example", url="W_URL", secret="W_SECRET", {only})])'
    rules = load(tmp_path, text)
    assert rules is not None
    assert CrmRules.load(rules.dump()) == rules


def test_no_file_no_system(tmp_path: Path) -> None:
    assert load_crm(tmp_path) is None
    assert load_crm(ROOT) is None  # shipped switched off


def test_every_problem_of_the_file_is_told_at_once(tmp_path: Path) -> None:
    said = problems(
        tmp_path,
        """crm = Crm(systems=[
    hubspot(
        "HubSpot", token="T", fields={"a": "scor", "Score": "score", "email": "email", "s": choice("qualification", {"mqll": "x"})}
    ),
    hubspot("hs", token="T", fields={}, outcomes=outcomes({"lifecyclestage": {"customer": "one"}}, reasons={"x": "no-buget"})),
    salesforce("sf", host="https://example.my.salesforce.com/", client_id="A", client_secret="B", fields={"Mebae Score": "score"}),
    kintone("sf", host="x.cybozu.com", app=1, token="T", key="k", fields={"k": "id"}, activities=(2, {"titel": "件名"})),
    webhook("hook", host="h.example.jp", url="U", secret="S", fields={"n": "lead.name"}, send=sending(only=lead.scor >= 3)),
    hubspot("gw", token="T", fields={"a": "score"}, url="http://gateway.example.jp", owners={"nobody": "1"}),
])""",
    )
    wanted = [
        ("HubSpot", "small letters"), ("HubSpot", "no 'scor', did you mean 'score'"), ("HubSpot", "'Score' is no internal name"),
        ("HubSpot", 'leave "email" out'), ("HubSpot", "mqll"), ("hs", "nothing would be sent"), ("hs", "cannot mean 'one'"),
        ("hs", "did you mean 'no-budget'"), ("hs", "needs reason="), ("hs", "how do they come"), ("sf", "is no host"),
        ("sf", "no API name"), ("sf", "without LastName"), ("sf", "two systems have this name"), ("sf", 'leave "k" out'),
        ("sf", "did you mean 'title'"), ("sf", 'hold "key" and "lead"'), ("hook", 'write "name", without lead.'), ("hook", "lead.scor"),
        ("gw", "http is for a private network"), ("gw", "none of the people"),
    ]  # fmt: skip
    for name, words in wanted:
        assert any(name in one and words in one for one in said), (name, words, said)


def test_a_secret_in_the_file_is_refused_and_not_repeated() -> None:
    for wrong in ("pat-jp1-0123", "https://hooks.example.jp/x", "whsec_abc", ""):
        with pytest.raises(AuthoringError) as refused:
            hubspot("hs", token=wrong, fields={"a": "score"})
        assert wrong == "" or wrong not in str(refused.value)
        assert "variable of the environment" in str(refused.value)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        (lambda: hubspot("hs", token="T", fields=["score"]), "fields="),  # type: ignore[arg-type]
        (lambda: hubspot("hs", token="T", fields={"a": 1}), "in quotes"),  # type: ignore[dict-item]
        (lambda: outcomes("lifecyclestage"), "outcomes({"),  # type: ignore[arg-type]
        (lambda: sending(at_once=["stages"]), "'stage'"),  # type: ignore[list-item]
        (lambda: sending(every=Duration(business_days=1)), "no business days"),
        (lambda: webhook("x", host="h", url="U", secret="S", send=30), "send=sending"),  # type: ignore[arg-type]
    ],
)
def test_wrong_spelling_shows_the_right_one(wrong: object, right: str) -> None:
    with pytest.raises(AuthoringError) as refused:
        wrong()  # type: ignore[operator]
    assert right in str(refused.value)
