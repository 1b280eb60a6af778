"""Importing lists of leads: what goes in, and what is said of what does not."""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlmodel import Session, col, select

from mebae.errors import BadInput
from mebae.importing import ROWS_AT_ONCE, ImportReport, RowProblem, import_leads
from mebae.store.database import Database
from mebae.store.leads import find_lead
from mebae.store.tables import Event, Lead

NOW = datetime(2026, 4, 1, tzinfo=UTC)
EXAMPLES = Path(__file__).parents[1] / "examples" / "leads.csv"


def written(folder: Path, text: str, *, encoding: str = "utf-8", name: str = "expo.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def known(database: Database, email: str) -> Lead:
    lead = database.write_now(find_lead, email=email)
    assert lead is not None
    return lead


def events(database: Database, lead: Lead) -> list[tuple[int, str]]:
    query = select(Event.seq, Event.name).where(Event.lead_id == lead.id).order_by(col(Event.seq))
    return [(seq, name) for seq, name in database.write_now(lambda session: session.exec(query).all())]


def everything(database: Database) -> list[dict[str, object]]:
    def work(session: Session) -> list[dict[str, object]]:
        leads = session.exec(select(Lead).order_by(col(Lead.id))).all()
        return [row.model_dump() for row in (*leads, *session.exec(select(Event).order_by(col(Event.id))).all())]

    return database.write_now(work)


def test_example_list_goes_in_whole_and_a_second_time_changes_nothing(database: Database) -> None:
    told: list[tuple[int, int]] = []
    report = import_leads(database, EXAMPLES, now=NOW, progress=lambda done, total: told.append((done, total)))
    assert report.rows >= 240
    assert report == ImportReport(rows=report.rows, new=report.rows)
    assert told[-1] == (report.rows, report.rows)

    before = everything(database)
    again = import_leads(database, EXAMPLES, now=NOW + timedelta(days=1))
    assert again == ImportReport(rows=report.rows, unchanged=report.rows)
    assert everything(database) == before


def test_example_list_is_invented_and_varied() -> None:
    with EXAMPLES.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        domain = row["email"].rpartition("@")[2]
        assert domain.endswith(".example") or domain in ("example.com", "example.jp", "example.net", "example.org")
    for column, least in {
        "industry": 8,
        "language": 2,
        "time_zone": 4,
        "stage": 3,
        "score": 40,
        "company": 40,
        "title": 40,
    }.items():
        assert len({row[column] for row in rows}) >= least, column
    meant = [
        row for row in rows if row["industry"] in ("manufacturing", "construction") and row["qualification"] == "none"
    ]
    assert len(meant) >= 100


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp932"])
def test_list_from_a_japanese_office_is_understood(database: Database, tmp_path: Path, encoding: str) -> None:
    path = written(
        tmp_path,
        "メールアドレス,姓,名,会社名,役職,業種,従業員数,ステージ,スコア,展示会\r\n"
        'Tanaka@Example.jp,田中,一郎,㈱青葉精機,部長,manufacturing,"1,200名",検討,５０,2026春\r\n'
        "a..b@docomo.ne.jp,髙橋,花子,,,,,,,\r\n",
        encoding=encoding,
    )
    report = import_leads(database, path, now=NOW)
    assert report == ImportReport(rows=2, new=2)
    tanaka = known(database, "tanaka@example.jp")
    assert (tanaka.name, tanaka.company, tanaka.title, tanaka.company_size) == ("田中 一郎", "㈱青葉精機", "部長", 1200)
    assert (tanaka.stage, tanaka.score, tanaka.attributes["展示会"]) == ("consideration", 50, "2026春")
    assert known(database, "a..b@docomo.ne.jp").name == "髙橋 花子"
    assert events(database, tanaka) == [(1, "Lead Created"), (2, "Lead Imported")]


def test_bad_rows_are_named_with_line_and_column_and_the_good_ones_go_in(database: Database, tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "email,氏名,score,stage,time_zone,employees\n"
        "a@example.jp,A,1,interest,Asia/Tokyo,10\n"
        ",B,1,interest,,\n"
        "not an address,C,,,,\n"
        'd@example.jp,"D\nwith a line break",many,warm,Asia/Tokio,\n'
        "e@example.jp,E,1\n"
        "\n"
        "f@example.jp,F,1.5,,,-3\n"
        "g@example.jp,G,7,認知,JST,51-200\n",
    )
    report = import_leads(database, path, now=NOW)
    assert (report.rows, report.new, report.changed, report.unchanged) == (7, 2, 0, 0)
    assert [(problem.line, problem.column) for problem in report.problems] == [
        (3, "email"), (4, "email"), (5, "score"), (5, "stage"), (5, "time_zone"), (7, None), (9, "score"), (9, "employees"),
    ]  # fmt: skip
    by_place = {(problem.line, problem.column): problem for problem in report.problems}
    assert by_place[3, "email"].reason == "is empty: every lead needs an address"
    assert str(by_place[5, "score"]) == "line 5, column 'score': should be a whole number, such as 120 (found 'many')"
    assert "Asia/Tokyo" in by_place[5, "time_zone"].reason
    assert "has 3 columns where the first line has 6" in by_place[7, None].reason
    assert known(database, "g@example.jp").company_size == 51
    assert database.write_now(find_lead, email="d@example.jp") is None


def test_changed_row_changes_the_lead_and_wakes_its_journeys(database: Database, tmp_path: Path) -> None:
    import_leads(database, written(tmp_path, "email,title\na@example.jp,課長\nb@example.jp,係長\n"), now=NOW)
    report = import_leads(database, written(tmp_path, "email,title\na@example.jp,部長\nb@example.jp,\n"), now=NOW)
    assert report == ImportReport(rows=2, changed=1, unchanged=1)
    lead = known(database, "a@example.jp")
    assert lead.title == "部長"
    assert events(database, lead) == [(1, "Lead Created"), (2, "Lead Imported"), (3, "Lead Identified")]
    assert known(database, "b@example.jp").title == "係長"  # an empty cell says nothing


def test_each_list_is_an_event_of_its_own(database: Database, tmp_path: Path) -> None:
    path = written(tmp_path, "email\na@example.jp\nA@example.jp\n")
    assert import_leads(database, path, now=NOW, list_name="展示会2026") == ImportReport(rows=2, new=1, unchanged=1)
    assert import_leads(database, path, now=NOW, list_name="セミナー") == ImportReport(rows=2, unchanged=2)
    rows = database.write_now(
        lambda s: s.exec(select(Event).where(Event.name == "Lead Imported").order_by(col(Event.seq))).all()
    )
    assert [row.properties for row in rows] == [{"list": "展示会2026"}, {"list": "セミナー"}]


def test_long_list_goes_in_by_parts_and_tells_how_far_it_is(database: Database, tmp_path: Path) -> None:
    lines = [f"lead{n}@example.jp,{n}" if n % 100 else f"lead{n},{n}" for n in range(1, 1201)]
    told: list[tuple[int, int]] = []
    path = written(tmp_path, "email,score\n" + "\n".join(lines))
    report = import_leads(database, path, now=NOW, progress=lambda done, total: told.append((done, total)))
    assert (report.rows, report.new, len(report.problems)) == (1200, 1188, 12)
    assert told == [(12 + ROWS_AT_ONCE, 1200), (12 + 2 * ROWS_AT_ONCE, 1200), (1200, 1200)]


@pytest.mark.parametrize(
    ("raw", "cure"),
    [
        (b"", "the file is empty"),
        (b"\xef\xbb\xbf\r\n \r\n", "the file is empty"),
        ("名前,会社\n田中,青葉\n".encode(), "name one 'email'"),
        (b"email,mail\na@example.jp,b@example.jp\n", "both mean email"),
        ("email\na@example.jp".encode("utf-16"), "UTF-16"),
        (b"PK\x03\x04rest", "Excel workbook"),
        (b"email\n\x81\xff\xff\n", "neither UTF-8 nor"),
        (None, "no such file"),
    ],
)
def test_unreadable_file_is_refused_with_the_cure(
    sqlite_database: Database, tmp_path: Path, raw: bytes | None, cure: str
) -> None:
    path = tmp_path / "list.csv"
    if raw is not None:
        path.write_bytes(raw)
    with pytest.raises(BadInput, match=cure) as refused:
        import_leads(sqlite_database, path, now=NOW)
    assert "list.csv" in str(refused.value)
    assert everything(sqlite_database) == []


def test_folder_is_refused(sqlite_database: Database, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="give a CSV file"):
        import_leads(sqlite_database, tmp_path, now=NOW)


def test_other_delimiters_and_poison_are_taken(database: Database, tmp_path: Path) -> None:
    path = written(tmp_path, '\nメール\t氏名\tメモ\na@example.jp\t佐\x00藤\t"a\tb"\n')
    assert import_leads(database, path, now=NOW) == ImportReport(rows=1, new=1)
    lead = known(database, "a@example.jp")
    assert (lead.name, lead.attributes) == ("佐藤", {"メモ": "a\tb"})


def test_cell_larger_than_csv_allows_is_a_bad_row_and_no_end(sqlite_database: Database, tmp_path: Path) -> None:
    path = written(tmp_path, f"email,note\na@example.jp,{'x' * 200_000}\nb@example.jp,y\n")
    report = import_leads(sqlite_database, path, now=NOW)
    assert report.new == 1
    assert report.problems == [
        RowProblem(line=2, reason="cannot be read as CSV (field larger than field limit (131072))")
    ]
