"""Plain HTML forms, posted by browsers: what comes in, what the visitor sees, and what nobody gets past."""

from __future__ import annotations

import http.server
import os
import re
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pytest
from playwright.sync_api import sync_playwright
from sqlmodel import col, select

from mebae.clock import WorldClock
from mebae.errors import ScenarioError
from mebae.forms import html_of, read_submission
from mebae.forms_language import Consent, Form
from mebae.forms_loading import FormBook, load_forms
from mebae.http import forms as http_forms
from mebae.http.app import create_app
from mebae.store.database import Database
from mebae.store.intake import Limits
from mebae.store.tables import Consent as ConsentRow
from mebae.store.tables import Event, IntakeRow, Lead, Visitor
from tests.applying import apply_all
from tests.clients.needs import CHROMIUM
from tests.http.test_app import KEY, serving

DOCS = Path(__file__).parents[2] / "docs" / "how-to" / "forms.md"
WORDING = "製品・セミナーに関するご案内メールの受け取りに同意します。"
FORMS = f'''
from mebae.forms_language import *

whitepaper = Form(
    "whitepaper-request",
    redirect="https://www.example.jp/thanks",
    required=["会社名", "氏名", "メールアドレス"],
    means={{"部署名": "lead.department", "導入時期": "timeframe", "ご所属": "company"}},
    downloads="whitepaper-automation",
    consent=Consent(field="agree", wording="{WORDING}", earlier=["以前の文言"]),
    honeypot="website",
    language="ja",
)
contact = Form(
    "contact", fields=["email", "message"], required=["message", "agree"], consent=Consent(field="agree", wording="ok"), language="en"
)
plain = Form("plain")
'''
FILLED = {
    "会社名": "㈱青葉精機", "氏名": "青葉 一郎", "メールアドレス": " Aoba@Aoba.co.jp ", "役職": "課長", "部署名": "生産技術部",
    "導入時期": "半年以内", "website": "", "agree": "yes",
}  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "forms.py").write_text(FORMS)
    return tmp_path / "scenarios"


class Site:
    """A browser that does not follow the redirect, and what is in the database once it is applied."""

    def __init__(self, database: Database, address: str) -> None:
        self.database, self.address = database, address
        self.browser = httpx.Client(base_url=address, timeout=20)

    def send(
        self, fields: dict[str, Any], form: str = "whitepaper-request", encoding: str = "utf-8", **headers: str
    ) -> httpx.Response:
        body = urlencode(fields, encoding=encoding, errors="xmlcharrefreplace", doseq=True).encode("ascii")
        return self.post(body, form, **headers)

    def post(self, body: bytes, form: str = "whitepaper-request", **headers: str) -> httpx.Response:
        said = {
            "content-type": "application/x-www-form-urlencoded",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        return self.browser.post(f"/forms/{form}", content=body, headers=said)

    def rows(self, table: type[Any]) -> list[Any]:
        assert not apply_all(self.database).quarantined
        key = Visitor.first_seen_at if table is Visitor else table.id
        return list(self.database.write_now(lambda s: s.exec(select(table).order_by(col(key))).all()))

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        return [(event.name, event.properties) for event in self.rows(Event)]

    def names(self) -> list[str]:
        return [name for name, _ in self.events()]


@pytest.fixture
def site(database: Database, home: Path) -> Iterator[Site]:
    yield from opened(database, home)


@pytest.fixture
def sqlite_site(sqlite_database: Database, home: Path) -> Iterator[Site]:
    yield from opened(sqlite_database, home)


def opened(database: Database, home: Path, **more: Any) -> Iterator[Site]:
    app = create_app(database, write_keys=[KEY], clock=WorldClock(), forms=FormBook(home), **more)
    with serving(app) as address:
        site = Site(database, address)
        yield site
        site.browser.close()


# What comes in --------------------------------------------------------------------------------------------------------


def test_visitor_who_asks_for_a_paper_is_a_lead_with_consent_and_is_sent_on(site: Site) -> None:
    answer = site.send(
        {**FILLED, "utm_source": "google", "utm_campaign": "spring"},
        referer="https://www.example.jp/wp?utm_source=other",
    )
    assert (answer.status_code, answer.headers["location"], answer.text) == (303, "https://www.example.jp/thanks", "")

    [lead] = site.rows(Lead)
    assert (lead.email, lead.name, lead.company, lead.title, lead.language) == (
        "aoba@aoba.co.jp", "青葉 一郎", "㈱青葉精機", "課長", "ja",
    )  # fmt: skip
    assert lead.attributes == {"department": "生産技術部"}
    assert (lead.first_source, lead.first_campaign) == ("google", "spring")
    assert lead.company_id is not None
    events = dict(site.events())
    assert {"Lead Created", "Lead Identified", "Form Submitted", "Content Downloaded"} <= set(events)
    assert events["Form Submitted"] == {
        "form": "whitepaper-request",
        "department": "生産技術部",
        "timeframe": "半年以内",
    }
    assert events["Content Downloaded"] == {"content": "whitepaper-automation", "form": "whitepaper-request"}
    [consent] = site.rows(ConsentRow)
    assert (consent.lead_id, consent.how, consent.source, consent.wording) == (
        lead.id,
        "form",
        "whitepaper-request",
        WORDING,
    )


@pytest.mark.parametrize("box", [{}, {"agree": ""}, {"agree": "0"}])
def test_box_that_is_not_ticked_is_no_consent(sqlite_site: Site, box: dict[str, str]) -> None:
    unticked = {name: value for name, value in FILLED.items() if name != "agree"}
    assert sqlite_site.send({**unticked, **box}).status_code == 303
    assert sqlite_site.rows(ConsentRow) == []
    assert len(sqlite_site.rows(Lead)) == 1


def test_record_has_the_words_that_the_page_showed(sqlite_site: Site) -> None:
    old = Consent(field="agree", wording="以前の文言").mark
    for n, mark in enumerate((old, "0123456789ab")):
        sqlite_site.send({**FILLED, "メールアドレス": f"a{n}@aoba.co.jp", "_wording": mark})
    assert sorted(row.wording for row in sqlite_site.rows(ConsentRow)) == ["", "以前の文言"]


def test_backends_can_say_what_a_lead_agreed_to(sqlite_site: Site) -> None:
    def said(message_id: str, consent: Any) -> dict[str, Any]:
        who = {"type": "identify", "messageId": message_id, "userId": "u-1", "traits": {"email": "a@aoba.co.jp"}}
        return {**who, "context": {"mebae": {"consent": consent}}}

    batch = [
        said("m1", {"how": "telephone", "wording": "製品案内のメール"}),
        said("m2", {"wording": "x"}),
        said("m3", "yes"),
    ]
    answer = sqlite_site.browser.post("/v1/batch", json={"batch": batch}, auth=(KEY, "")).json()
    assert [one["index"] for one in answer["rejected"]] == [1, 2]
    assert apply_all(sqlite_site.database).quarantined
    [consent] = sqlite_site.rows(ConsentRow)
    assert (consent.how, consent.wording, consent.cause) == ("telephone", "製品案内のメール", "m1")


@pytest.mark.parametrize("kind", ["shift_jis", "shift_jis with _charset_", "multipart", "multipart in shift_jis"])
def test_every_way_in_which_a_page_may_send_japanese(sqlite_site: Site, kind: str) -> None:
    fields = {**FILLED, "氏名": "髙橋 花子♡", "導入時期": "1年以内\r\n応相談"}
    if kind == "multipart":
        answer = sqlite_site.browser.post(
            "/forms/whitepaper-request", files={name: (None, value) for name, value in fields.items()}
        )
    elif kind.startswith("multipart"):
        parts = "".join(
            f'--frontier\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        )
        empty = '--frontier\r\nContent-Disposition: form-data; name="file"; filename=""\r\nContent-Type: text/plain\r\n\r\n\r\n'
        body = (parts + empty + "--frontier--\r\n").encode("cp932", errors="xmlcharrefreplace")
        answer = sqlite_site.post(body, content_type="multipart/form-data; boundary=frontier")
    else:
        answer = sqlite_site.send(
            {**fields, **({"_charset_": "Shift_JIS"} if "with" in kind else {})}, encoding="cp932"
        )
    assert answer.status_code == 303
    [lead] = sqlite_site.rows(Lead)
    assert (lead.name, lead.company) == ("髙橋 花子♡", "㈱青葉精機")
    assert dict(sqlite_site.events())["Form Submitted"]["timeframe"] == "1年以内\n応相談"


def test_form_says_nothing_that_is_not_the_visitors_to_say(sqlite_site: Site) -> None:
    more = {
        "score": "9999",
        "stage": "consideration",
        "リード区分": "mql",
        "lead.qualification": "won",
        "lead.stage": "consideration",
        "lead.lead.score": "900",
        "lead.tags": "vip",
        "user_id": "u-1",
        "form": "other",
        "_secret": "x",
    }
    assert sqlite_site.send({**FILLED, **more}).status_code == 303
    [lead] = sqlite_site.rows(Lead)
    assert (lead.score, lead.stage, lead.qualification, lead.user_id) == (0, "awareness", "none", None)
    assert not lead.attributes.keys() & {"tags", "qualification", "score", "lead.tags"}
    submitted = dict(sqlite_site.events())["Form Submitted"]
    assert submitted["form"] == "whitepaper-request"
    assert submitted["score"] == "9999"
    assert "_secret" not in submitted


def test_what_the_visitor_did_before_is_joined(site: Site) -> None:
    page = {"type": "page", "anonymousId": "browser-7", "messageId": "m1", "properties": {"path": "/pricing"}}
    assert site.browser.post("/v1/batch", json={"batch": [page]}, auth=(KEY, "")).json() == {"success": True}
    assert site.rows(Lead) == []
    site.send(FILLED, cookie=f"ajs_anonymous_id={quote(chr(34) + 'browser-7' + chr(34))}")
    assert "Page Viewed" in site.names()
    assert [visitor.lead_id for visitor in site.rows(Visitor)] == [site.rows(Lead)[0].id]


def test_campaign_of_the_page_itself_counts(sqlite_site: Site) -> None:
    sqlite_site.send(FILLED, referer="https://www.example.jp/wp?utm_source=newsletter&utm_campaign=april")
    [lead] = sqlite_site.rows(Lead)
    assert (lead.first_source, lead.first_campaign) == ("newsletter", "april")


def test_what_cannot_be_read_is_kept_as_an_answer_and_loses_nobody(sqlite_site: Site) -> None:
    assert sqlite_site.send({**FILLED, "従業員数": "たくさん", "関心": ["在庫", "予知保全"]}).status_code == 303
    submitted = dict(sqlite_site.events())["Form Submitted"]
    assert (submitted["従業員数"], submitted["関心"]) == ("たくさん", ["在庫", "予知保全"])


# Once, and not by programs --------------------------------------------------------------------------------------------


def test_second_click_changes_nothing_and_another_answer_does(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [site.send(FILLED).status_code for _ in range(3)] == [303, 303, 303]
    assert site.names().count("Form Submitted") == 1
    assert len(site.rows(ConsentRow)) == 1
    site.send({**FILLED, "導入時期": "未定"})
    assert site.names().count("Form Submitted") == 2
    later = time.monotonic() + 61
    monkeypatch.setattr(http_forms.time, "monotonic", lambda: later)
    monkeypatch.setattr(http_forms, "ONCE_WITHIN", 1)
    time.sleep(1.1)
    site.send(FILLED)
    assert site.names().count("Form Submitted") == 3


def test_nonce_makes_it_once_for_ever(sqlite_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    sqlite_site.send({**FILLED, "_nonce": "n-1"})
    monkeypatch.setattr(http_forms, "ONCE_WITHIN", 1)
    time.sleep(1.1)
    sqlite_site.send({**FILLED, "_nonce": "n-1"})
    assert sqlite_site.names().count("Form Submitted") == 1
    sqlite_site.send({**FILLED, "_nonce": "n-2"})
    assert sqlite_site.names().count("Form Submitted") == 2


def test_program_that_fills_in_everything_is_sent_on_and_leaves_nothing(
    sqlite_site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = sqlite_site.send({**FILLED, "website": "https://spam.example"})
    assert (answer.status_code, answer.headers["location"]) == (303, "https://www.example.jp/thanks")
    assert sqlite_site.rows(IntakeRow) == sqlite_site.rows(Event) == []


def test_browser_is_sent_nowhere_but_to_the_forms_page(sqlite_site: Site) -> None:
    evil = "https://evil.example/"
    asked = {**FILLED, "redirect": evil, "next": evil, "_redirect": evil, "return_to": evil}
    answer = sqlite_site.browser.post(
        f"/forms/whitepaper-request?redirect={quote(evil)}",
        data=asked,
        headers={"referer": evil, "host": "evil.example"},
    )
    assert answer.headers["location"] == "https://www.example.jp/thanks"
    thanks = sqlite_site.send({"email": "a@aoba.co.jp"}, form="plain", accept_language="en-GB")
    assert (thanks.status_code, "location" in thanks.headers) == (200, False)
    assert "Thank you." in thanks.text


# What the visitor is told ---------------------------------------------------------------------------------------------


def test_missing_and_wrong_fields_are_named_in_the_visitors_language(sqlite_site: Site) -> None:
    answer = sqlite_site.send({"会社名": " ", "メールアドレス": "aoba"}, referer='https://www.example.jp/wp?"><script>')
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    said = re.findall(r"<li><strong>(.*?)</strong>: (.*?)</li>", answer.text)
    assert said == [
        ("メールアドレス", "メールアドレスの形式をご確認ください"), ("会社名", "入力してください"), ("氏名", "入力してください"),
    ]  # fmt: skip
    assert '<a href="https://www.example.jp/wp?&quot;&gt;&lt;script&gt;">フォームに戻る</a>' in answer.text
    english = sqlite_site.send({}, form="contact", accept_language="fr, en;q=0.8, ja;q=0.5")
    assert re.findall(r"<li><strong>(.*?)</strong>: (.*?)</li>", english.text) == [
        ("Email", "please fill this in"), ("message", "please fill this in"), ("agree", "please tick this box"),
    ]  # fmt: skip
    assert sqlite_site.rows(Event) == []


def test_visitors_text_is_never_markup(sqlite_site: Site) -> None:
    answer = sqlite_site.send({"<script>alert(1)</script>": "x" * 5001})
    assert "<script>" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"x=" + b"y" * 100_000, "application/x-www-form-urlencoded", 413),
        (b"&".join(b"f%d=1" % n for n in range(201)), "application/x-www-form-urlencoded", 413),
        (urlencode({**FILLED, **{f"q{n}": "長" * 400 for n in range(20)}}).encode(), "application/x-www-form-urlencoded", 413),
        (b"{}", "application/json", 415),
        (b"email=a@aoba.co.jp", "text/plain", 415),
        (b"", "multipart/form-data; boundary=x", 400),
        (b'--x\r\nContent-Disposition: form-data; name="email"\r\n\r\na@aoba', "multipart/form-data; boundary=x", 400),
        (b'--x\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\nhi\r\n--x--\r\n', "multipart/form-data; boundary=x", 422),
        (b"\xff\xfe%ff%00=%00", "application/x-www-form-urlencoded", 422),
    ],
)  # fmt: skip
def test_what_is_no_form_is_refused_readably(sqlite_site: Site, body: bytes, kind: str, status: int) -> None:
    answer = sqlite_site.post(body, content_type=kind)
    assert answer.status_code == status
    assert "<h1>" in answer.text
    assert sqlite_site.rows(IntakeRow) == []


def test_unknown_form_is_a_page_too(sqlite_site: Site) -> None:
    assert sqlite_site.send(FILLED, form="whitepapr").status_code == 404


def test_form_that_cannot_be_kept_asks_the_visitor_to_come_again(sqlite_database: Database, home: Path) -> None:
    for site in opened(sqlite_database, home, limits=Limits(waiting=0)):
        answer = site.send(FILLED)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "5")
        assert "もう一度送信してください" in answer.text


# The file -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ('f = Form("Contact Us")', "lower-case words joined by hyphens"),
        ('f = Form("a", redirect="/thanks")', "write the whole address"),
        ('f = Form("a", redirect="javascript:alert(1)")', "write the whole address"),
        ('f = Form("a", redirect="https://x.jp/\\nSet-Cookie: a")', "write the whole address"),
        ('f = Form("a", consent=Consent(field="agree", wording=" "))', "the consent has no wording"),
        ('f = Form("a", consent="agree")', "consent= takes a Consent"),
        ('f = Form("a", required="email")', "is no list"),
        ('f = Form("a", means={"ご所属": "compny"})', "did you mean 'company'"),
        ('f = Form("a", honeypot="email")', "is a field that people fill in"),
        ('f = Form("a", fields=["会社名"])', "no field holds the address"),
        ('f = Form("a", fields=["email"], required=["会社名"])', "is none of the fields"),
        ('f = Form("a", required=["_wording"])', "names that begin with _ are ours"),
        ('f = Form("a")\ng = Form("a")', "two forms are called 'a'"),
        ("f = 1", "there is no form"),
        ("f = Frm('a')", "did you mean 'Form'"),
    ],
)
def test_slips_in_the_file_are_named_with_the_cure(home: Path, text: str, cure: str) -> None:
    (home / "forms.py").write_text(f"from mebae.forms_language import *\n{text}\n")
    with pytest.raises(ScenarioError) as found:
        load_forms(home)
    assert cure in str(found.value)
    assert "scenarios/forms.py" in str(found.value)


def test_edited_file_is_read_again_and_a_broken_one_changes_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FormBook, "LOOK_EVERY", 0.0)
    book = FormBook(home)
    assert [form.id for form in book.all()] == ["whitepaper-request", "contact", "plain"]
    good = (home / "forms.py").read_text()
    (home / "forms.py").write_text(good + "\nbroken = Form(\n")
    assert book.find("contact") is not None
    (home / "forms.py").write_text(good + '\nmore = Form("seminar")\n')
    assert book.find("seminar") is not None
    os.remove(home / "forms.py")
    assert book.all() == []
    assert load_forms(home) is None


def test_server_without_forms_has_none(sqlite_database: Database, tmp_path: Path) -> None:
    for site in opened(sqlite_database, tmp_path):
        assert site.send(FILLED).status_code == 404


def test_html_that_is_printed_is_what_the_form_understands() -> None:
    form = Form(
        "a",
        fields=["会社名", "メール", "<b>"],
        required=["会社名"],
        consent=Consent(field="agree", wording='"quoted" & <b>'),
        honeypot="website",
    )
    page = html_of(form, "https://mebae.example.jp")
    assert 'action="https://mebae.example.jp/forms/a"' in page
    assert "<b>" not in page
    names = [name.replace("&lt;b&gt;", "<b>") for name in re.findall(r'name="(.*?)"', page)]
    assert names == ["会社名", "メール", "<b>", "agree", "_wording", "website"]
    mark = re.findall(r'name="_wording" value="(.*?)"', page)[0]
    said = {"会社名": "青葉", "メール": "a@aoba.co.jp", "agree": "yes", "_wording": mark, "website": ""}
    read = read_submission(form, list(said.items()))
    assert (read.wrong, read.agreed, read.wording) == ({}, True, '"quoted" & <b>')


def test_form_without_fields_asks_for_each_thing_once() -> None:
    page = html_of(Form("a", required=["email", "company"]), "https://mebae.example.jp")
    assert re.findall(r'name="(.*?)"', page) == ["email", "company", "氏名"]


# In a browser ---------------------------------------------------------------------------------------------------------


class Shop(http.server.BaseHTTPRequestHandler):
    """The user's web site: the page of the docs, and the one that says thanks."""

    def __init__(self, html: str, encoding: str, *args: Any) -> None:
        self._html, self._encoding = html, encoding
        super().__init__(*args)

    def do_GET(self) -> None:
        content = (
            self._html.encode(self._encoding)
            if self.path.startswith("/form")
            else b"<!doctype html><title>thanks</title>"
        )
        self.send_response(200)
        self.send_header("Content-Type", f"text/html; charset={self._encoding}")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.skipif(CHROMIUM is None, reason="forms: there is no Chromium on this machine")
@pytest.mark.parametrize("encoding", ["utf-8", "shift_jis"])
def test_page_of_the_docs_works_in_a_real_browser(sqlite_database: Database, home: Path, encoding: str) -> None:
    [page] = re.findall(r"```html\n(<!doctype.*?)```", DOCS.read_text(), re.DOTALL)
    [code] = re.findall(r"```python\n(from mebae.forms_language.*?)```", DOCS.read_text(), re.DOTALL)
    assert "https://mebae.example.jp" in page
    for site in opened(sqlite_database, home):
        html = page.replace("https://mebae.example.jp", site.address).replace('<meta charset="utf-8">', "")
        if encoding != "utf-8":
            html = html.replace(' accept-charset="UTF-8"', "")
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Shop, html, encoding))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        shop = f"http://127.0.0.1:{server.server_port}"
        (home / "forms.py").write_text(code.replace("https://www.example.jp/thanks", f"{shop}/thanks"))
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
                tab = browser.new_page()
                tab.goto(f"{shop}/form?utm_source=ad&utm_campaign=spring")
                tab.get_by_label("会社名").fill("株式会社青葉精機")
                tab.get_by_label("氏名").fill("髙橋 花子 😀")
                tab.get_by_label("メールアドレス").fill("hanako@aoba.co.jp")
                tab.get_by_label("導入時期").select_option("半年以内")
                tab.get_by_role("checkbox").check()
                tab.get_by_role("button").click()
                tab.wait_for_url(f"{shop}/thanks")
                assert tab.title() == "thanks"
                browser.close()
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
        [lead] = site.rows(Lead)
        assert (lead.email, lead.name, lead.company) == ("hanako@aoba.co.jp", "髙橋 花子 😀", "株式会社青葉精機")
        assert lead.attributes["timeframe"] == "半年以内"
        assert (lead.first_source, lead.first_campaign) == ("ad", "spring")
        [consent] = site.rows(ConsentRow)
        assert consent.wording == WORDING
