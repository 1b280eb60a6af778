"""Which leads belong together: by the domain of their addresses, else by the firm's name."""

from __future__ import annotations

import threading
import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import Session, col, select

from mebae.store.companies import colleagues, companies_for, domain_of, name_key
from mebae.store.consents import Given, consents_of, record, record_all
from mebae.store.database import Database, lock_lead
from mebae.store.tables import Company, Lead

NOW = datetime(2026, 4, 1, tzinfo=UTC)


def join(session: Session, *people: tuple[str | None, str | None]) -> list[int]:
    """Leads with these addresses and firms' names, in one batch; the ids of their firms (0: none)."""
    leads = [Lead(email=email, company=company, created_at=NOW, updated_at=NOW) for email, company in people]
    session.add_all(leads)
    session.flush()
    companies_for(session, leads, NOW)
    return [lead.company_id or 0 for lead in leads]


def firms(database: Database) -> list[tuple[str | None, str | None]]:
    query = select(Company).order_by(col(Company.id))
    return [(one.domain, one.name) for one in database.write_now(lambda session: session.exec(query).all())]


def test_leads_of_one_domain_are_colleagues_whatever_their_firm_is_called(database: Database) -> None:
    one, two, other = database.write_now(
        join, ("a@aoba.co.jp", "株式会社青葉精機"), ("b@aoba.co.jp", "青葉"), ("c@wakaba.co.jp", "株式会社青葉精機")
    )
    assert one == two != other
    assert firms(database) == [("aoba.co.jp", "株式会社青葉精機"), ("wakaba.co.jp", "株式会社青葉精機")]
    [again] = database.write_now(join, ("d@aoba.co.jp", None))
    assert again == one

    def of_a(session: Session) -> list[str | None]:
        lead = session.exec(select(Lead).where(Lead.email == "a@aoba.co.jp")).one()
        return [its.email for its in colleagues(session, lead)]

    assert database.write_now(of_a) == ["b@aoba.co.jp", "d@aoba.co.jp"]


def test_addresses_at_a_provider_are_joined_by_name_and_strangers_by_nothing(database: Database) -> None:
    ids = database.write_now(
        join, ("a@gmail.com", "㈱青葉精機"), ("b@docomo.ne.jp", "青葉精機　株式会社"), ("c@gmail.com", None), ("d@yahoo.co.jp", "個人"),
        (None, "(株)青葉精機"), (None, None),
    )  # fmt: skip
    assert ids == [ids[0], ids[0], 0, 0, ids[0], 0]
    assert firms(database) == [(None, "㈱青葉精機")]


def test_firm_known_by_name_takes_the_domain_that_comes_later(database: Database) -> None:
    [by_name] = database.write_now(join, ("a@gmail.com", "青葉精機"))
    [by_both] = database.write_now(join, ("b@aoba.co.jp", "株式会社青葉精機"))
    [again] = database.write_now(join, ("c@aoba.co.jp", None))
    assert by_name == by_both == again
    # A second domain under the same name is another firm.
    [namesake] = database.write_now(join, ("d@aoba.jp", "青葉精機"))
    assert namesake != by_name
    assert [domain for domain, _ in firms(database)] == ["aoba.co.jp", "aoba.jp"]


def test_firm_known_by_domain_learns_its_name(database: Database) -> None:
    [silent] = database.write_now(join, ("a@aoba.co.jp", None))
    assert firms(database) == [("aoba.co.jp", None)]
    named, private = database.write_now(join, ("b@aoba.co.jp", "株式会社青葉精機"), ("c@gmail.com", "青葉精機"))
    assert silent == named == private
    assert firms(database) == [("aoba.co.jp", "株式会社青葉精機")]


def test_lead_who_changes_jobs_changes_firms(database: Database) -> None:
    [before] = database.write_now(join, ("a@aoba.co.jp", "青葉精機"))

    def moves(session: Session) -> list[int | None]:
        lead = lock_lead(session, session.exec(select(Lead.id)).one() or 0)
        assert lead is not None
        found = []
        for email, company in (("a@wakaba.co.jp", "若葉"), ("a@gmail.com", None)):
            lead.email, lead.company = email, company
            companies_for(session, [lead], NOW)
            found.append(lead.company_id)
        return found

    after, nowhere = database.write_now(moves)
    assert after not in (None, before)
    assert nowhere is None


def test_two_imports_of_one_exhibition_at_once_make_each_firm_once(database: Database) -> None:
    barrier, failed = threading.Barrier(4), []

    def imports(turn: int) -> None:
        try:
            for batch in range(5):
                barrier.wait(10)
                people = [(f"lead{turn}-{batch}-{n}@firm{batch}-{n}.co.jp", f"Firm {n}") for n in range(20)]
                named = [(f"lead{turn}-{batch}-{n}@gmail.com", f"株式会社Named {batch} {n}") for n in range(20)]
                people += named
                database.write_now(join, *(people if turn % 2 else reversed(people)))
        except Exception as error:
            failed.append(error)
            barrier.abort()

    threads = [threading.Thread(target=imports, args=(turn,)) for turn in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    found = firms(database)
    assert len(found) == len(set(found)) == 200


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("株式会社青葉精機", "青葉精機（株）"),
        ("㈲玉川鋳造", "有限会社　玉川鋳造"),
        ("合同会社ﾜｶﾊﾞ", "ワカバ"),
        ("Northwind Precision Ltd", "NORTHWIND PRECISION, LIMITED"),
        ("Aoba Seiki Co., Ltd.", "Aoba-Seiki Inc."),
        ("Aoba K.K.", "aoba"),
        ("一般社団法人 青葉会", "(一社)青葉会"),
    ],
)
def test_spellings_of_one_firm(one: str, other: str) -> None:
    assert name_key(one) == name_key(other) != ""


@pytest.mark.parametrize("name", ["", "株式会社", "個人", "フリーランス", "-", "N/A", "なし", "…"])
def test_what_is_no_firm(name: str) -> None:
    assert name_key(name) == ""


FORMS = st.sampled_from(
    ["株式会社", "(株)", "㈱", "有限会社", "㈲", "合同会社", "（有）", " Inc.", " Co., Ltd.", " K.K.", " LLC"]
)
NAMES = st.text(st.sampled_from("青葉精機ワカバわかばーAoba12・&- "), min_size=1, max_size=12).filter(
    lambda name: name_key(name) != ""
)


@given(st.text(max_size=40))
def test_a_key_is_its_own_key(name: str) -> None:
    key = name_key(name)
    assert name_key(key) == key
    assert not any(unicodedata.category(char)[0] in "ZPC" for char in key)


@given(NAMES, FORMS, st.booleans())
def test_form_width_case_and_spaces_make_no_difference(name: str, form: str, before: bool) -> None:
    full = f"{form}{name}" if before and not form.startswith(" ") else f"{name}{form}"
    assert name_key(full) == name_key(name)
    wide = "".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in name)
    for other in (wide, name.upper(), name.lower(), f"  {name}　"):
        assert name_key(other) == name_key(name)


def test_domains_of_firms_and_of_providers() -> None:
    assert domain_of("a@Aoba.CO.jp") == "aoba.co.jp"
    for address in (
        "a@gmail.com",
        "a@icloud.com",
        "a@yahoo.co.jp",
        "a@docomo.ne.jp",
        "a@blue.ocn.ne.jp",
        "a@nifty.com",
        None,
        "",
    ):
        assert domain_of(address) is None


def test_consent_is_recorded_once_for_each_cause(database: Database) -> None:
    database.write_now(join, ("a@aoba.co.jp", None), ("b@aoba.co.jp", None))

    def work(session: Session) -> list[tuple[str, str]]:
        one, two = session.exec(select(Lead.id).order_by(col(Lead.id))).all()
        assert one is not None
        assert two is not None
        record(session, one, NOW, "form", "contact", "メールを受け取る", "message-1")
        record(session, one, NOW, "form", "contact", "another text", "message-1")
        record_all(session, [Given(one, NOW, "import", "expo", "", "b"), Given(two, NOW, "import", "expo", "", "a")])
        return [(its.how, its.wording) for its in consents_of(session, one)]

    assert database.write_now(work) == [("form", "メールを受け取る"), ("import", "")]
