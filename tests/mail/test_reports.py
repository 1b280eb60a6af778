"""What mails say that come back, in all the ways in which servers, carriers and programs say it."""

from __future__ import annotations

import tracemalloc
from base64 import b64encode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mebae.mail import return_addresses
from mebae.mail.bounce_reasons import BY_REASON, TABLE, Reason, reason_of
from mebae.mail.reports import MEANINGS, Kind, Report, read_report
from mebae.tokens import Kind as TokenKind
from tests.mail.report_cases import CASES, FOLDER, MESSAGE_ID, NOW, TO, TOKENS, load

ALL = sorted(CASES)


def test_every_mail_of_the_corpus_is_a_case() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.eml")) == ALL


@pytest.mark.parametrize("crlf", [False, True], ids=["lf", "crlf"])
@pytest.mark.parametrize("name", ALL)
def test_report_says_what_became_of_the_mail(name: str, crlf: bool) -> None:
    said = CASES[name]

    report = read_report(load(name, crlf=crlf)).about(TO)

    assert (report.kind, report.status, report.reason, report.away) == (said.kind, said.status, said.reason, said.away)


@pytest.mark.parametrize("name", ALL)
def test_proof_is_found_wherever_it_stands(name: str) -> None:
    report = read_report(load(name))

    read = [return_addresses.read(TOKENS, one, now=NOW) for one in (*report.to, *report.quoted)]
    deliveries = {one.delivery for one in read if one is not None}
    assert deliveries <= {7}
    assert (bool(deliveries) or MESSAGE_ID in report.message_ids) == CASES[name].proof


@pytest.mark.parametrize("name", ALL)
def test_same_mail_has_the_same_cause_by_whatever_way_it_comes(name: str) -> None:
    by_smtp = read_report(load(name, crlf=True)).cause
    in_a_maildir = b"Delivered-To: us@mebae.example\nReceived: by mx (Postfix)\n\tid 1\n" + load(name)

    assert read_report(in_a_maildir).cause == by_smtp
    if "message-id" not in load(name).lower().partition(b"\n\n")[0].decode("latin-1"):
        assert read_report(load(name, delivery=8)).cause != by_smtp


def test_every_cause_of_the_corpus_is_another() -> None:
    causes = [read_report(load(name)).cause for name in ALL]

    assert len(set(causes)) == len(causes)


def test_of_several_recipients_the_leads_own_word_counts() -> None:
    report = read_report(load("several-recipients"))

    assert [fate.kind for fate in report.fates] == [Kind.BOUNCE_HARD, Kind.BOUNCE_SOFT, Kind.DELIVERED]
    assert report.about(TO).kind == Kind.BOUNCE_SOFT
    assert report.about("GONE@aoba.example").status == "5.1.1"
    assert report.about("somebody@else.example").kind == Kind.DELIVERED, (
        "nobody knows who is meant: the mildest word counts"
    )


def test_envelope_comes_before_the_header() -> None:
    report = read_report(load("postfix-mailbox-unknown"), to=["envelope@return.mebae.example"])

    assert report.to[0] == "envelope@return.mebae.example"
    read = return_addresses.read(TOKENS, report.to[1], now=NOW)
    assert read is not None
    assert (read.kind, read.delivery) == (TokenKind.BOUNCE, 7)


def test_what_our_own_mail_said_is_no_word_about_it() -> None:
    """The mail of the corpus says of itself that it is no spam, and that no mailbox is full."""
    assert b"Your mailbox is never full" in load("qmail-no-mailbox")

    assert read_report(load("qmail-no-mailbox")).reason == Reason.MAILBOX_UNKNOWN


# The mapping table ---------------------------------------------------------------------------------------------------


def test_every_reason_has_a_row_and_every_kind_a_meaning() -> None:
    assert set(BY_REASON) == set(Reason)
    assert set(MEANINGS) == set(Kind)
    statuses = [status for spec in TABLE for status in spec.statuses]
    assert len(statuses) == len(set(statuses)), "a status stands for one reason"


SAYINGS = [
    ("5.1.1", "550 5.1.1 The email account that you tried to reach does not exist.", "mailbox-unknown"),
    ("5.7.1", "550 5.7.1 <a@b.example>: Recipient address rejected: User unknown", "mailbox-unknown"),
    ("5.0.0", "554 delivery error: dd This user doesn't have a yahoo.example account", "mailbox-unknown"),
    ("5.5.0", "550 Requested action not taken: mailbox unavailable", "mailbox-unknown"),
    (None, "ユーザー some は Domino ディレクトリには見つかりません", "mailbox-unknown"),
    (None, "指定されたメールアドレスは存在しません。", "mailbox-unknown"),
    ("5.2.2", "552 5.2.2 The recipient's inbox is out of storage space", "mailbox-full"),
    (None, "宛先のメールボックスが容量を超過しているため", "mailbox-full"),
    ("5.2.1", "550 5.2.1 The email account that you tried to reach is disabled", "mailbox-disabled"),
    ("5.1.6", "", "moved"),
    ("5.4.4", "Host or domain name not found. Name service error for name=aoba.example type=MX", "domain-unknown"),
    (None, "Sorry, I couldn't find any host named aoba.example. (#5.1.2)", "domain-unknown"),
    ("5.1.10", "", "domain-unknown"),
    ("5.2.0", "", "filtered"),
    ("5.7.1", "550 5.7.1 Your mail was rejected by the recipient's filter", "filtered"),
    ("4.7.1", "450 4.7.1 <a@b.example>: Recipient address rejected: Greylisted", "greylisted"),
    ("4.7.0", "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred", "rate-limited"),
    ("4.2.1", "450 4.2.1 The user you are trying to contact is receiving mail at a rate that prevents", "rate-limited"),
    ("5.7.1", "550 5.7.1 Email rejected per DMARC policy for mebae.example", "auth-failed"),
    ("5.7.26", "blocked, for some reason", "auth-failed"),
    ("5.1.8", "501 5.1.8 Domain of sender address does not exist", "auth-failed"),
    ("5.1.8", "550 5.1.8 <hello@mebae.example>: Sender address rejected: Domain not found", "auth-failed"),
    (None, "550 <hello@mebae.example>: Sender address rejected: User unknown in virtual alias table", "auth-failed"),
    ("4.7.1", "450 4.7.1 Client host rejected: cannot find your hostname, [192.0.2.1]", "auth-failed"),
    (None, "553 sorry, your envelope sender domain must exist", "auth-failed"),
    (None, "550 the mail of this sender was not wanted: rejected by the recipient", "filtered"),
    (None, "returned from the server of the company: user not found", "mailbox-unknown"),
    ("5.7.606", "550 5.7.606 Access denied, banned sending IP", "blocked"),
    ("5.7.1", "554 Service unavailable; Client host [192.0.2.1] blocked using zen.blocklist.example", "blocked"),
    ("5.0.0", "550 Sorry, message looks like SPAM to me.", "spam"),
    ("5.3.4", "552 5.3.4 Message size exceeds fixed limit", "too-large"),
    ("5.6.0", "554 5.6.0 Message with invalid header rejected", "content"),
    ("5.7.1", "554 5.7.1 Relay access denied", "relay-denied"),
    ("5.4.6", "554 5.4.6 Too many hops", "loop"),
    ("4.4.7", "retry timeout exceeded", "expired"),
    ("4.4.1", "connect to mx.aoba.example[192.0.2.2]:25: Connection timed out", "unreachable"),
    ("4.3.2", "System not accepting network messages", "system-trouble"),
    ("5.7.1", "550 5.7.1", "policy"),
    ("5.7.9", "554 5.7.9 Message not accepted for policy reasons", "policy"),
    ("5.0.0", "550 Nein", "unknown"),
    (None, "", "unknown"),
    ("5.1.1", "550 5.1.1 <spam-virus-blacklist@aoba.example> https://aoba.example/greylist", "mailbox-unknown"),
]


@pytest.mark.parametrize(
    ("status", "text", "reason"), SAYINGS, ids=[text[:40] or status or "nothing" for status, text, _ in SAYINGS]
)
def test_what_servers_say_becomes_one_word(status: str | None, text: str, reason: str) -> None:
    assert reason_of(status, text) == reason


def dsn(status: str, said: str = "", action: str = "failed") -> Report:
    return read_report(
        b"From: MAILER-DAEMON@mx.example\nMIME-Version: 1.0\nContent-Type: multipart/report; boundary=b\n\n"
        b"--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example\n\n"
        + f"Final-Recipient: rfc822; {TO}\nAction: {action}\nStatus: {status}\nDiagnostic-Code: smtp; {said}\n\n--b--\n".encode()
    )


@given(st.integers(0, 9), st.integers(0, 999))
def test_bare_codes_of_the_fifth_class_are_hard_unless_their_detail_speaks_of_somebody_else(
    subject: int, detail: int
) -> None:
    rest = f"{subject}.{detail}"

    hard, soft = dsn(f"5.{rest}"), dsn(f"4.{rest}")

    assert hard.reason is not None
    assert hard.kind == (Kind.BOUNCE_HARD if BY_REASON[hard.reason].about == "address" else Kind.BOUNCE_SOFT)
    assert soft.kind == Kind.BOUNCE_SOFT
    assert (hard.status, soft.status, hard.reason) == (f"5.{rest}", f"4.{rest}", soft.reason)


def test_fault_of_ours_is_no_fault_of_the_address() -> None:
    for reason in (
        Reason.BLOCKED,
        Reason.SPAM,
        Reason.AUTH_FAILED,
        Reason.RELAY_DENIED,
        Reason.RATE_LIMITED,
        Reason.TOO_LARGE,
    ):
        assert BY_REASON[reason].about == "us"


# Hostile and broken mails --------------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(st.sampled_from(ALL), st.data())
def test_mutated_mail_is_read_without_an_error(name: str, data: st.DataObject) -> None:
    raw = bytearray(load(name))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(raw) - 1))
        match data.draw(st.sampled_from(("set", "cut", "insert", "double", "drop"))):
            case "set":
                raw[at] = data.draw(st.integers(0, 255))
            case "cut":
                del raw[at + 1 :]
            case "insert":
                raw[at:at] = data.draw(
                    st.sampled_from((b"\x00", b"\r", b"\n\n", b"=?", b"\x1b$B", b"--", b"\xff\xfe", b"; ", b"<", b"@"))
                )
            case "double":
                raw[at:at] = raw[at : at + 200]
            case _:
                del raw[at : at + data.draw(st.integers(1, 40))]
        if not raw:
            raw = bytearray(b"\n")

    report = read_report(bytes(raw)).about(TO)

    assert report.kind in Kind
    assert len(report.text) <= 500
    assert max(len(report.to), len(report.quoted), len(report.message_ids), len(report.addresses)) <= 20
    for one in (*report.to, *report.quoted):
        read = return_addresses.read(TOKENS, one, now=NOW)
        assert read is None or read.delivery == 7, "no mutation makes a token for another delivery"


@given(st.binary(max_size=3000))
def test_any_bytes_are_read(raw: bytes) -> None:
    assert read_report(raw).kind in Kind


def nested(levels: int) -> bytes:
    return b"".join(
        b'Content-Type: multipart/mixed; boundary="b%d"\n\n--b%d\n' % (level, level) for level in range(levels)
    )


HOSTILE = {
    "no header": b"\r\n\r\n550 5.1.1",
    "empty": b"",
    "deep multiparts": nested(5_000),
    "deep mails in mails": b"Content-Type: message/rfc822\n\n" * 5_000,
    "one endless header": b"Subject: " + b"x" * 400_000,
    "many headers": b"X-A: b\n" * 60_000 + b"\nbody",
    "many parts": b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * 60_000,
    "many boundaries of nothing": b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n" * 100_000,
    "boundary of regular expressions": b"Content-Type: multipart/mixed; boundary=\"(a+)+$\"\n\n--(a+)+$\n" + b"a" * 50_000,
    "spaces": b"From: MAILER-DAEMON\nSubject: returned mail\n\n550" + b" " * 500_000,
    "angles": b"From: MAILER-DAEMON\nSubject: returned mail\n\n" + b"<" * 200_000,
    "styles": b"Content-Type: text/html\nFrom: postmaster\n\n" + b"<style" * 80_000,
    "tags": b"Content-Type: text/html\nFrom: postmaster\n\n" + b"<br " * 80_000,
    "dots": b"From: MAILER-DAEMON\nSubject: returned mail\n\n" + b"5.1." * 100_000,
    "ats": b"To: " + b"a@" * 60_000 + b"\n\n",
    "encoded words": b"Subject: " + b"=?utf-8?B?" * 12_000 + b"\n\n",
    "bad base64": b"Content-Transfer-Encoding: base64\n\n" + b"A" * 100_001,
    "charset that is a codec": b"Content-Type: text/plain; charset=zip\n\nx" + b"Content-Type: text/plain; charset=punycode\n\nx",
    "charset of another world": b"Content-Type: text/plain; charset=x-mars\n\n\xff\xfe\x00",
    "numbers": b"From: MAILER-DAEMON\nContent-Type: message/delivery-status\n\nStatus: " + b"5" * 100_000,
    "xtext": b"Content-Type: message/delivery-status\n\nOriginal-Recipient: rfc822;" + b"+41" * 40_000 + b"\nAction: failed\n",
    "message ids": b"References: " + b"<a@b> " * 20_000 + b"\n\n",
    "nul": b"\x00" * 100_000,
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.timeout(20)
def test_hostile_mail_neither_fails_nor_hangs(name: str) -> None:
    assert read_report(HOSTILE[name]).kind in Kind


def test_ten_megabytes_take_little_memory() -> None:
    attached = b64encode(bytes(range(256)) * 30_000)
    raw = load("postfix-mailbox-unknown").replace(
        b"\n--4HkA.1795741323/mx.aoba.example--", b"\n" + attached + b"\n--4HkA--"
    )
    assert len(raw) > 10_000_000

    tracemalloc.start()
    try:
        report = read_report(raw)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert (report.kind, report.status) == (Kind.BOUNCE_HARD, "5.1.1")
    assert most < 12 * 1024 * 1024, f"{most >> 20} MB beside the mail itself"


@pytest.mark.parametrize(
    "charset", ["iso-2022-jp", "shift_jis", "euc-jp", "utf-8", "x-sjis", "CP50220", "iso-2022-jp-ms"]
)
def test_japanese_is_read_in_every_charset_that_servers_use(charset: str) -> None:
    codec = {"x-sjis": "cp932", "CP50220": "iso2022_jp", "iso-2022-jp-ms": "iso2022_jp"}.get(charset, charset)
    text = "下記の宛先にお届けできませんでした。\n宛先のメールアドレスは存在しません。\n".encode(codec)
    header = f"From: MAILER-DAEMON@mx.example\nContent-Type: text/plain; charset={charset}\n\n".encode()

    assert read_report(header + text).reason == Reason.MAILBOX_UNKNOWN
