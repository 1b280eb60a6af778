"""Importing lists of leads: what goes in, and what is said of what does not."""

from __future__ import annotations

import csv
import tracemalloc
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import openpyxl
import pytest
from sqlmodel import Session, col, select

from mebae.columns import parse_mapping, read_mapping
from mebae.errors import BadInput
from mebae.import_rows import ConsentSaid, RowProblem, read_date
from mebae.importing import PROBLEMS_KEPT, ROWS_AT_ONCE, ImportOptions, ImportReport, import_leads
from mebae.sheets import readings, writing
from mebae.store.companies import colleagues
from mebae.store.consents import consents_of
from mebae.store.database import Database
from mebae.store.leads import find_lead
from mebae.store.tables import Company, Consent, Event, Lead
from tests.leads import publish_model

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
        tables = (Lead, Event, Company, Consent)
        return [row.model_dump() for table in tables for row in session.exec(select(table).order_by(table.id))]

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


def test_a_score_in_a_list_is_another_systems_where_a_model_reckons_it(database: Database, tmp_path: Path) -> None:
    publish_model(database)
    path = written(tmp_path, "email,役職,score\nhanako@example.com,部長,999\n")
    assert import_leads(database, path, now=NOW).new == 1
    hanako = known(database, "hanako@example.com")
    assert (hanako.score, hanako.attributes["their_score"]) == (20, 999)

    before = everything(database)
    assert import_leads(database, path, now=NOW + timedelta(days=1)) == ImportReport(rows=1, unchanged=1)
    assert everything(database) == before

    exported = written(tmp_path, "email,score\nhanako@example.com,20\n", name="ours.csv")
    assert import_leads(database, exported, now=NOW + timedelta(days=2)).unchanged == 1
    assert known(database, "hanako@example.com").attributes["their_score"] == 999


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
    assert report == ImportReport(rows=2, new=2, kept=["展示会"])
    tanaka = known(database, "tanaka@example.jp")
    assert (tanaka.name, tanaka.company, tanaka.title, tanaka.company_size) == ("田中 一郎", "㈱青葉精機", "部長", 1200)
    assert (tanaka.stage, tanaka.score, tanaka.attributes["展示会"]) == ("consideration", 50, "2026春")
    assert known(database, "a..b@docomo.ne.jp").name == "髙橋 花子"
    assert events(database, tanaka)[:2] == [(1, "Lead Created"), (2, "Lead Imported")]


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
    assert [row.properties["list"] for row in rows] == ["展示会2026", "セミナー"]


def test_long_list_goes_in_by_parts_and_tells_how_far_it_is(database: Database, tmp_path: Path) -> None:
    lines = [f"lead{n}@example.jp,{n}" if n % 100 else f"lead{n},{n}" for n in range(1, 1201)]
    told: list[tuple[int, int]] = []
    path = written(tmp_path, "email,score\n" + "\n".join(lines))
    report = import_leads(database, path, now=NOW, progress=lambda done, total: told.append((done, total)))
    assert (report.rows, report.new, len(report.problems)) == (1200, 1188, 12)
    assert told == [(ROWS_AT_ONCE, 1200), (2 * ROWS_AT_ONCE, 1200), (1200, 1200)]


@pytest.mark.parametrize(
    ("raw", "cure"),
    [
        (b"", "the file is empty"),
        (b"\xef\xbb\xbf\r\n \r\n", "the file is empty"),
        ("名前,会社\n田中,青葉\n".encode(), "name one 'email'"),
        (b"email,mail\na@example.jp,b@example.jp\n", "both mean email"),
        (b"\xff\xfee\x00m\x00", "no column holds addresses"),
        (b"PK\x03\x04rest", "cannot be read as an Excel workbook"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old Excel file"),
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
    assert import_leads(database, path, now=NOW) == ImportReport(rows=1, new=1, kept=["メモ"])
    lead = known(database, "a@example.jp")
    assert (lead.name, lead.attributes) == ("佐藤", {"メモ": "a\tb"})


def test_cell_larger_than_csv_allows_is_a_bad_row_and_no_end(sqlite_database: Database, tmp_path: Path) -> None:
    path = written(tmp_path, f"email,note\na@example.jp,{'x' * 200_000}\nb@example.jp,y\n")
    report = import_leads(sqlite_database, path, now=NOW)
    assert report.new == 1
    assert report.left_out == 1
    assert report.problems == [
        RowProblem(line=2, reason="cannot be read as CSV (field larger than field limit (131072))")
    ]


# The same from a workbook, and from what trade fairs hand out ---------------------------------------------------------


def workbook(folder: Path, sheets: dict[str, list[list[object]]], *, hidden: tuple[str, ...] = ()) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
        sheet.sheet_state = "hidden" if name in hidden else "visible"
    path = folder / "expo.xlsx"
    book.save(path)
    return path


def test_workbook_of_a_trade_fair_goes_in_like_a_csv(database: Database, tmp_path: Path) -> None:
    moment = datetime(2026, 3, 14, 10, 30)  # noqa: DTZ001 - Excel knows no zones
    path = workbook(
        tmp_path,
        {
            "メモ": [["社内用"]],
            "来場者": [
                ["展示会2026春 来場者リスト"],
                [],
                [
                    "Eメールアドレス",
                    "ご氏名",
                    "御社名",
                    "従業員数",
                    "来場日",
                    "電話",
                    "予算",
                    "見学",
                    "備考",
                    None,
                    None,
                ],
                [
                    "a@aoba.co.jp",
                    "青葉 一郎",
                    "㈱青葉精機",
                    1200.0,
                    date(2026, 3, 14),
                    "+81-3-1234",
                    120.5,
                    True,
                    "#N/A",
                    None,
                    "x",
                ],
                ["b@aoba.co.jp", "青葉 二郎", "青葉精機", "51-200名", moment, 312345678],
                ["", "名刺 三郎", "若葉工業"],
                [None, None, None, None, None],
                ["not an address"],
            ],
        },
        hidden=("メモ",),
    )
    report = import_leads(database, path, now=NOW)
    assert (report.rows, report.new, report.left_out) == (4, 2, 2)
    assert [(bad.line, bad.column) for bad in report.problems] == [(6, "Eメールアドレス"), (8, "Eメールアドレス")]
    assert report.problems[0].reason == (
        "is empty: a card without an address gives nobody to write to; add one and import again"
    )
    one, two = known(database, "a@aoba.co.jp"), known(database, "b@aoba.co.jp")
    assert (one.name, one.company, one.company_size) == ("青葉 一郎", "㈱青葉精機", 1200)
    assert one.attributes == {"来場日": "2026-03-14", "電話": "+81-3-1234", "予算": 120.5, "見学": True}
    assert (two.company_size, two.attributes["来場日"], two.attributes["電話"]) == (
        51,
        "2026-03-14T10:30:00",
        312345678,
    )
    assert one.company_id == two.company_id is not None

    before = everything(database)
    again = import_leads(database, path, now=NOW + timedelta(days=1))
    assert (again.new, again.changed, again.unchanged) == (0, 0, 2)
    assert everything(database) == before


def test_sheet_is_chosen_by_name_or_number_and_a_wrong_one_is_named(sqlite_database: Database, tmp_path: Path) -> None:
    path = workbook(tmp_path, {"1日目": [["email"], ["a@aoba.co.jp"]], "2日目": [["email"], ["b@aoba.co.jp"]]})
    for sheet, email in (("2日目", "b@aoba.co.jp"), ("1", "a@aoba.co.jp")):
        report = import_leads(sqlite_database, path, now=NOW, options=ImportOptions(sheet=sheet))
        assert (report.rows, report.new) == (1, 1)
        assert known(sqlite_database, email)
    with pytest.raises(BadInput, match="no sheet '3日目', did you mean"):
        import_leads(sqlite_database, path, now=NOW, options=ImportOptions(sheet="3日目"))
    with pytest.raises(BadInput, match="has no sheets"):
        import_leads(sqlite_database, EXAMPLES, now=NOW, options=ImportOptions(sheet="1"))


def test_unicode_text_of_excel_is_taken(sqlite_database: Database, tmp_path: Path) -> None:
    path = written(tmp_path, "メール\t氏名\r\na@aoba.co.jp\t髙橋 花子\r\n", encoding="utf-16", name="expo.txt")
    assert import_leads(sqlite_database, path, now=NOW) == ImportReport(rows=1, new=1)
    assert known(sqlite_database, "a@aoba.co.jp").name == "髙橋 花子"


def test_columns_mean_what_the_user_says(sqlite_database: Database, tmp_path: Path) -> None:
    path = written(tmp_path, "連絡先,ご所属,備考,Q1,Q 2\na@aoba.co.jp,青葉精機,話の長い人,半年以内,\n")
    with pytest.raises(BadInput, match="no column holds addresses"):
        import_leads(sqlite_database, path, now=NOW)
    (tmp_path / "expo.map.yaml").write_text("連絡先: email\n備考: ignore\nいつかの列: title\n", encoding="utf-8")
    mapping = read_mapping(tmp_path / "expo.map.yaml") | parse_mapping(["ご所属=company", "Q1=lead.timeframe"])
    report = import_leads(sqlite_database, path, now=NOW, options=ImportOptions(mapping=mapping))
    assert (report.rows, report.new) == (1, 1)
    lead = known(sqlite_database, "a@aoba.co.jp")
    assert (lead.company, lead.attributes) == ("青葉精機", {"timeframe": "半年以内"})
    options = ImportOptions(mapping=mapping, must_have={"ご所続": "--map 'ご所続=company'"})
    with pytest.raises(BadInput, match="there is no column 'ご所続', did you mean 'ご所属'"):
        import_leads(sqlite_database, path, now=NOW, options=options)


@pytest.mark.parametrize(
    ("pair", "cure"),
    [
        ("ご所属", "write heading=field"),
        ("ご所属=compny", "did you mean 'company'"),
        ("Q1=budget", "is written lead.budget"),
        ("Q1=lead.", "1 to 64 characters"),
    ],
)
def test_wrong_mapping_is_refused_with_the_cure(pair: str, cure: str) -> None:
    with pytest.raises(BadInput, match=cure):
        parse_mapping([pair])


def test_mapping_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "expo.map.yaml"
    for text, cure in (("- a\n", "holds no mapping"), ("a: [\n", "cannot be read"), ("a: b\n", "is no field")):
        path.write_text(text)
        with pytest.raises(BadInput, match=cure):
            read_mapping(path)


# Where leads come from, and what they agreed to -----------------------------------------------------------------------


def test_source_and_campaign_are_kept_first_and_last(database: Database, tmp_path: Path) -> None:
    spring = written(tmp_path, "email,流入元\na@aoba.co.jp,\nb@aoba.co.jp,セミナー\n", name="spring.csv")
    autumn = written(tmp_path, "email\na@aoba.co.jp\n", name="autumn.csv")
    import_leads(database, spring, now=NOW, options=ImportOptions(source="展示会", campaign="2026春"))
    import_leads(database, autumn, now=NOW)
    import_leads(
        database, spring, now=NOW, options=ImportOptions(source="展示会", campaign="2026春")
    )  # a repeated list moves nothing

    def where(email: str) -> tuple[str | None, ...]:
        lead = known(database, email)
        return lead.first_source, lead.first_campaign, lead.last_source, lead.last_campaign

    assert where("a@aoba.co.jp") == ("展示会", "2026春", "autumn", None)
    assert where("b@aoba.co.jp") == ("セミナー", "2026春", "セミナー", "2026春")
    rows = database.write_now(
        lambda s: s.exec(select(Event).where(Event.name == "Lead Imported").order_by(col(Event.id))).all()
    )
    assert [row.properties for row in rows] == [
        {"list": "spring", "source": "展示会", "campaign": "2026春"},
        {"list": "spring", "source": "セミナー", "campaign": "2026春"},
        {"list": "autumn", "source": "autumn"},
    ]


def consents(database: Database, email: str) -> list[tuple[str, str, str, datetime]]:
    def work(session: Session) -> list[tuple[str, str, str, datetime]]:
        lead = find_lead(session, email=email)
        assert lead is not None
        return [(one.how, one.source, one.wording, one.given_at) for one in consents_of(session, lead.id or 0)]

    return database.write_now(work)


def test_consent_of_a_list_is_recorded_once(database: Database, tmp_path: Path) -> None:
    path = written(tmp_path, "email,名刺交換日\na@aoba.co.jp,2026/3/14\nb@aoba.co.jp,\n")
    said = ConsentSaid(how="business-card", wording="名刺交換時に口頭で", given_at=datetime(2026, 3, 15, tzinfo=UTC))
    for _ in range(2):
        report = import_leads(database, path, now=NOW, options=ImportOptions(consent=said))
        assert report.consents == 2
    card = ("business-card", "expo", "名刺交換時に口頭で")
    assert consents(database, "a@aoba.co.jp") == [(*card, datetime(2026, 3, 13, 15, tzinfo=UTC))]
    assert consents(database, "b@aoba.co.jp") == [(*card, datetime(2026, 3, 15, tzinfo=UTC))]


def test_column_says_who_agreed_and_silence_is_no_consent(database: Database, tmp_path: Path) -> None:
    rows = "a@aoba.co.jp,○,配信に同意\nb@aoba.co.jp,×,\nc@aoba.co.jp,,\nd@aoba.co.jp,telephone,\n"
    path = written(tmp_path, f"email,メール配信同意,同意文言\n{rows}")
    report = import_leads(
        database, path, now=NOW, options=ImportOptions(consent=ConsentSaid(how=None, wording="一般の文言"))
    )
    assert (report.new, report.consents) == (4, 2)
    assert consents(database, "a@aoba.co.jp") == [("import", "expo", "配信に同意", NOW)]
    assert consents(database, "d@aoba.co.jp") == [("telephone", "expo", "一般の文言", NOW)]
    assert consents(database, "b@aoba.co.jp") == consents(database, "c@aoba.co.jp") == []
    # Also when all the list's leads are said to have agreed.
    import_leads(database, path, now=NOW, options=ImportOptions(consent=ConsentSaid(how="form")))
    assert consents(database, "c@aoba.co.jp") == []
    assert "メール配信同意" not in known(database, "a@aoba.co.jp").attributes


def test_consent_of_tomorrow_is_a_slip(sqlite_database: Database, tmp_path: Path) -> None:
    path = written(tmp_path, "email,同意,同意日\na@aoba.co.jp,1,2062-03-14\nb@aoba.co.jp,1,春\n")
    report = import_leads(sqlite_database, path, now=NOW)
    assert [(bad.column, bad.reason) for bad in report.problems] == [
        ("同意日", "is in the future"), ("同意日", "should be a date, such as 2026-04-01"),
    ]  # fmt: skip
    assert report.left_out == 2


@pytest.mark.parametrize(
    "text",
    ["2026-04-01", "2026/4/1", "2026.4.1", "２０２６年４月１日", "20260401", "2026-04-01T00:00+09:00", "2026/4/1 0:00"],
)
def test_dates_as_lists_write_them(text: str) -> None:
    assert read_date(text, ZoneInfo("Asia/Tokyo")) == datetime(2026, 3, 31, 15, tzinfo=UTC)


# Looking before leaping -----------------------------------------------------------------------------------------------


def test_headings_that_mean_nothing_by_themselves_are_named(database: Database, tmp_path: Path) -> None:
    path = written(tmp_path, "email,ご所属,備考,役職,lead.plan\nhanako@example.com,青葉精機,,部長,team\n")
    report = import_leads(database, path, now=NOW, options=ImportOptions(mapping={"備考": "ignore"}, dry_run=True))
    assert report.kept == ["ご所属"]


def test_dry_run_says_all_and_writes_nothing(database: Database, tmp_path: Path) -> None:
    import_leads(
        database,
        written(tmp_path, "email,title\nknown@aoba.co.jp,課長\nsame@aoba.co.jp,課長\n"),
        now=NOW,
        list_name="expo",
    )
    before = everything(database)
    lines = ["email,title,同意", "known@aoba.co.jp,部長,1", "same@aoba.co.jp,課長,", "nobody,,"]
    lines += [f"lead{n}@aoba.co.jp,課長,1" for n in range(ROWS_AT_ONCE)]
    lines += ["lead0@aoba.co.jp,課長,", "lead1@aoba.co.jp,部長,"]
    path = written(tmp_path, "\n".join(lines))
    dry = import_leads(database, path, now=NOW, options=ImportOptions(dry_run=True))
    assert everything(database) == before
    real = import_leads(database, path, now=NOW)
    assert dry == real
    assert (real.new, real.changed, real.unchanged, real.left_out) == (ROWS_AT_ONCE, 2, 2, 1)


def test_every_problem_is_told_and_the_report_stays_small(sqlite_database: Database, tmp_path: Path) -> None:
    path = written(tmp_path, "email\n" + "".join(f"nobody {n}\n" for n in range(PROBLEMS_KEPT + 5)))
    told: list[RowProblem] = []
    report = import_leads(sqlite_database, path, now=NOW, on_problem=told.append)
    assert (report.left_out, report.found, len(report.problems)) == (
        PROBLEMS_KEPT + 5,
        PROBLEMS_KEPT + 5,
        PROBLEMS_KEPT,
    )
    assert len(told) == PROBLEMS_KEPT + 5


def test_leads_of_one_firm_are_colleagues_after_an_import(database: Database, tmp_path: Path) -> None:
    path = written(
        tmp_path, "email,会社名\na@aoba.co.jp,㈱青葉精機\nb@gmail.com,青葉精機\nc@gmail.com,\nd@wakaba.co.jp,若葉\n"
    )
    import_leads(database, path, now=NOW)

    def of_a(session: Session) -> list[str | None]:
        lead = find_lead(session, email="a@aoba.co.jp")
        assert lead is not None
        return [its.email for its in colleagues(session, lead)]

    assert database.write_now(of_a) == ["b@gmail.com"]
    import_leads(
        database, written(tmp_path, "email,会社名\nc@gmail.com,青葉精機\nd@aoba.co.jp,\n", name="more.csv"), now=NOW
    )
    assert database.write_now(of_a) == ["b@gmail.com", "c@gmail.com", "d@aoba.co.jp"]


def test_long_lists_are_never_in_memory_whole(sqlite_database: Database, tmp_path: Path) -> None:
    """Ten times the rows, and about the same peak: reading only, for the database has its own tests."""

    def peak(rows: int) -> int:
        path = tmp_path / f"{rows}.csv"
        with writing(path) as file:
            file.row(["email", "name", "company", "備考"])
            for n in range(rows):
                file.row([f"lead{n}@aoba.co.jp", f"青葉 {n}", "株式会社青葉精機", "x" * 200])
        tracemalloc.start()
        try:
            assert sum(1 for sheet in readings(path)[:1] for _ in sheet.rows()) == rows + 1
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(20_000) < 1.5 * peak(2_000)


def test_an_old_export_takes_no_lead_back_from_sales(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "old.csv"
    file.write_text("email,stage,qualification\nsato@aoba.example,awareness,none\nmori@aoba.example,興味,mql\n")

    def sales_took_it(session: Session) -> None:
        session.add(Lead(email="sato@aoba.example", stage="consideration", qualification="sql", created_at=NOW, updated_at=NOW))

    def standing(session: Session, email: str) -> tuple[str, str]:
        lead = session.exec(select(Lead).where(Lead.email == email)).one()
        return lead.stage, lead.qualification

    database.write_now(sales_took_it)
    report = import_leads(database, file, now=NOW)
    assert (report.new, report.unchanged) == (1, 1)
    assert database.read_now(standing, "sato@aoba.example") == ("consideration", "sql")
    assert database.read_now(standing, "mori@aoba.example") == ("interest", "mql"), "of a new lead the list is all that is known"

    meant = ImportOptions(mapping={"stage": "stage", "qualification": "qualification"})
    assert import_leads(database, file, now=NOW, options=meant).changed == 1
    assert database.read_now(standing, "sato@aoba.example") == ("awareness", "none")
