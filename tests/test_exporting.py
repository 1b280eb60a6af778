"""Exporting leads: what comes out can go in again, and no spreadsheet runs what a stranger wrote."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import Session, col, select

from mebae.authoring import lead
from mebae.errors import BadInput, NotFound
from mebae.exporting import ALWAYS, PAGE, export_leads
from mebae.importing import import_leads
from mebae.segments import Saved
from mebae.sheets import guarded, value_of
from mebae.store.database import Database
from mebae.store.segments import publish_segments
from mebae.store.tables import Event, Lead

NOW = datetime(2026, 4, 1, tzinfo=UTC)
KINDS = pytest.mark.parametrize("kind", ["csv", "xlsx"])


def leads(database: Database) -> list[Lead]:
    return list(database.write_now(lambda s: s.exec(select(Lead).order_by(col(Lead.email))).all()))


def add(database: Database, *people: dict[str, Any]) -> None:
    def work(session: Session) -> None:
        session.add_all(Lead(**{"created_at": NOW, "updated_at": NOW, **one}) for one in people)

    database.write_now(work)


@pytest.fixture
def other(tmp_path_factory: pytest.TempPathFactory, _migrated_sqlite: Path) -> Iterator[Database]:
    """A second house, empty."""
    path = tmp_path_factory.mktemp("other") / "mebae.db"
    path.write_bytes(_migrated_sqlite.read_bytes())
    database = Database(f"sqlite:///{path}")
    yield database
    database.close()


PEOPLE: list[dict[str, Any]] = [
    {
        "email": "a@aoba.co.jp", "user_id": "0123", "name": "青葉 一郎", "company": "株式会社青葉精機", "title": "部長",
        "industry": "製造業", "company_size": 1200, "language": "ja", "time_zone": "Asia/Tokyo",
        "first_source": "展示会", "first_campaign": "2025春",
        "last_source": "セミナー", "last_campaign": "2026春",
        "attributes": {"電話": "+81-3-1234", "plan": "pro", "memo": "line\nbreak, \"comma\"", "source": "own", "first_name": "一郎"},
    },
    {"email": "b@wakaba.co.jp", "name": "=HYPERLINK(\"https://evil.example\")", "company": "-若葉", "language": "en", "last_source": "x",
     "attributes": {"plan": "@SUM(1)", "note": "'=quoted already", "email2": "＝全角"}},
    {"email": "c@gmail.com", "name": "'", "company": "O'Neill", "attributes": {"n": "120", "lead.x": "dotted"}},
]  # fmt: skip
SAID = (*ALWAYS, "attributes")


@KINDS
def test_what_is_exported_makes_the_same_leads_elsewhere(
    database: Database, other: Database, tmp_path: Path, kind: str
) -> None:
    add(database, *PEOPLE)
    report = export_leads(database, tmp_path / f"all.{kind}", now=NOW)
    assert report.rows == 3
    assert import_leads(other, tmp_path / f"all.{kind}", now=NOW).new == 3
    for one, copy in zip(leads(database), leads(other), strict=True):
        for field in SAID:
            said, again = getattr(one, field), getattr(copy, field)
            if field == "first_source" and said is None:  # who came from nowhere came from this list
                continue
            if field == "last_source" and said is None:
                continue
            assert again == said, field


@KINDS
def test_what_is_exported_changes_nothing_when_it_comes_back(database: Database, tmp_path: Path, kind: str) -> None:
    add(
        database,
        {
            **PEOPLE[0],
            "attributes": {"n": 120, "x": 1.5, "t": True, "l": ["a", 1], "o": {"k": None}, "big": 2**60, "s": "120"},
        },
        *PEOPLE[1:],
    )
    path = tmp_path / f"all.{kind}"
    export_leads(database, path, now=NOW)
    before = [one.model_dump(include=set(SAID)) for one in leads(database)]
    report = import_leads(database, path, now=NOW + timedelta(days=1))
    assert (report.unchanged, report.left_out) == (3, 0)
    after = [
        one.model_dump(include=set(SAID) - {"first_source", "last_source", "last_campaign"}) for one in leads(database)
    ]
    assert after == [{key: value for key, value in one.items() if key in after[0]} for one in before]
    told = database.write_now(lambda s: [event.name for event in s.exec(select(Event))])
    assert "Lead Identified" not in told


@KINDS
def test_no_cell_is_a_formula(sqlite_database: Database, tmp_path: Path, kind: str) -> None:
    add(sqlite_database, *PEOPLE)
    path = tmp_path / f"all.{kind}"
    export_leads(sqlite_database, path, now=NOW)
    if kind == "csv":
        rows: list[list[Any]] = list(csv.reader(io.StringIO(path.read_text("utf-8-sig"), newline="")))
    else:
        sheet = openpyxl.load_workbook(path).active
        rows = [[cell.value for cell in row] for row in sheet.iter_rows()]
        assert {cell.data_type for row in sheet.iter_rows() for cell in row} <= {"s", "inlineStr", "n"}
    texts = [cell for row in rows for cell in row if isinstance(cell, str)]
    assert not [text for text in texts if text[:1] in "=+-@＝＋－＠" and text]
    assert '\'=HYPERLINK("https://evil.example")' in texts


@given(st.text(st.sampled_from("=+-@'＝ a\t1"), max_size=6))
def test_a_guarded_cell_reads_as_it_was(text: str) -> None:
    assert value_of(guarded(text.strip())) == text.strip()
    assert guarded(text)[:1] not in ("=", "+", "-", "@", "＝")


def test_only_the_leads_of_a_segment_are_exported(database: Database, tmp_path: Path) -> None:
    add(database, *PEOPLE, {"email": "gone@aoba.co.jp", "erased_at": NOW, "language": "en"})
    saved = Saved("english", "", lead.language == "en")
    database.write_now(publish_segments, [saved])
    path = tmp_path / "english.csv"
    assert export_leads(database, path, now=NOW, segment="english").rows == 1
    with path.open(encoding="utf-8-sig", newline="") as file:
        assert [row["email"] for row in csv.DictReader(file)] == ["b@wakaba.co.jp"]
    with pytest.raises(NotFound, match="segment 'englisch' not found, did you mean 'english'"):
        export_leads(database, path, now=NOW, segment="englisch")
    assert export_leads(database, path, now=NOW).rows == 3  # an erased lead is in no file


def test_columns_are_chosen_and_a_wrong_one_is_named(sqlite_database: Database, tmp_path: Path) -> None:
    add(sqlite_database, {**PEOPLE[0], "tags": ["vip", "expo"]})
    path = tmp_path / "some.csv"
    export_leads(sqlite_database, path, now=NOW, columns=["email", " tags", "lead.plan", "created_at", "lead.none"])
    assert path.read_text("utf-8-sig").splitlines() == [
        "email,tags,lead.plan,created_at,lead.none", "a@aoba.co.jp,vip; expo,pro,2026-04-01T00:00:00+00:00,",
    ]  # fmt: skip
    with pytest.raises(BadInput, match=r"no column 'emial', did you mean 'email'"):
        export_leads(sqlite_database, path, now=NOW, columns=["emial"])
    with pytest.raises(BadInput, match="names none"):
        export_leads(sqlite_database, path, now=NOW, columns=[""])


def test_old_excel_gets_its_encoding_and_says_what_it_cannot_write(sqlite_database: Database, tmp_path: Path) -> None:
    add(sqlite_database, {"email": "a@aoba.co.jp", "name": "髙橋 花子", "title": "部長😀"})
    path = tmp_path / "old.csv"
    assert export_leads(sqlite_database, path, now=NOW, encoding="cp932", columns=["email", "name", "title"]).lost == 1
    assert path.read_bytes().decode("cp932").splitlines()[1] == "a@aoba.co.jp,髙橋 花子,部長?"
    with pytest.raises(BadInput, match="is no encoding"):
        export_leads(sqlite_database, path, now=NOW, encoding="utf-9")


@pytest.mark.parametrize(
    ("name", "cure"), [("leads.pdf", "name the file .csv or .xlsx"), ("nowhere/leads.csv", "make it first")]
)
def test_file_that_cannot_be_written_is_refused(
    sqlite_database: Database, tmp_path: Path, name: str, cure: str
) -> None:
    with pytest.raises(BadInput, match=cure):
        export_leads(sqlite_database, tmp_path / name, now=NOW)


@KINDS
def test_export_that_fails_leaves_the_older_file(sqlite_database: Database, tmp_path: Path, kind: str) -> None:
    add(sqlite_database, PEOPLE[0])
    path = tmp_path / f"all.{kind}"
    path.write_text("older")

    def stops(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_leads(sqlite_database, path, now=NOW, progress=stops)
    assert path.read_text() == "older"
    assert [one.name for one in tmp_path.iterdir() if one.name.endswith(".part")] == []


def test_both_passes_of_an_export_are_told(sqlite_database: Database, tmp_path: Path) -> None:
    add(sqlite_database, *PEOPLE)
    told: list[tuple[int, int]] = []
    export_leads(sqlite_database, tmp_path / "a.csv", now=NOW, progress=lambda done, total: told.append((done, total)))
    assert told == [(3, 6), (6, 6)], "looking for the attributes takes as long as writing"
    told.clear()
    some = ["email"]
    export_leads(sqlite_database, tmp_path / "b.csv", now=NOW, columns=some, progress=lambda done, total: told.append((done, total)))
    assert told == [(3, 3)]


def test_long_export_goes_page_by_page(database: Database, tmp_path: Path) -> None:
    add(database, *({"email": f"lead{n}@aoba.co.jp"} for n in range(2 * PAGE + 1)))
    told: list[tuple[int, int]] = []
    export_leads(database, tmp_path / "all.csv", now=NOW, progress=lambda done, total: told.append((done, total)))
    total = 2 * PAGE + 1
    passes = [PAGE, 2 * PAGE, total]
    assert told == [(done, 2 * total) for done in (*passes, *(total + done for done in passes))]
    assert len((tmp_path / "all.csv").read_text("utf-8-sig").splitlines()) == total + 1
