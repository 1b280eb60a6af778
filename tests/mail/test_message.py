"""The bytes on the wire, read back by parsers that did not write them."""

from __future__ import annotations

import base64
import quopri
import re
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mebae.mail.message import ADDRESS_INVALID, address_spec, build, message_id
from mebae.mail.rendering import BrokenMail, Rendered, Sender

SENDER = Sender("点検ノート編集部", "news@example.com")
NOW = datetime(2026, 4, 1, 10, 0, tzinfo=UTC)
ID = message_id(7, "thanks", 1, "example.com")


def built(
    subject: str = "資料のご案内",
    to_name: str | None = "山田 太郎",
    to: str = "taro@example.jp",
    sender: Sender = SENDER,
    **more: Any,
) -> bytes:
    rendered = Rendered(subject, "", "<p>こんにちは</p>\n", "こんにちは\n.dot\n", "product", sender)
    fields: dict[str, Any] = {"message_id": ID, "date": NOW} | more
    return build(rendered, to=to, to_name=to_name, sender=sender, **fields)


def raw_headers(message: bytes) -> dict[str, str]:
    """Headers by RFC 5322 alone: unfolded, nothing decoded."""
    head = message.split(b"\r\n\r\n", 1)[0].decode("ascii")
    lines = re.sub(r"\r\n(?=[ \t])", "", head).split("\r\n")
    pairs = [line.split(": ", 1) for line in lines]
    assert len({name.lower() for name, _ in pairs}) == len(pairs), "a header twice"
    return dict(pairs)


def decoded(words: str) -> str:
    """RFC 2047 by hand: every encoded word on its own, white space between two of them dropped."""

    def word(found: re.Match[str]) -> str:
        assert len(found[0]) <= 75
        data = found[2].encode()
        data = base64.b64decode(data) if found[1].lower() == "b" else quopri.decodestring(data, header=True)
        return data.decode("utf-8")

    words = re.sub(r"(?<=\?=)\s+(?==\?)", "", words)
    return re.sub(r"=\?utf-8\?([bq])\?([^?]*)\?=", word, words, flags=re.IGNORECASE)


def parsed(message: bytes) -> EmailMessage:
    read = message_from_bytes(message, policy=policy.default)
    assert isinstance(read, EmailMessage)
    assert not read.defects
    return read


@pytest.mark.parametrize(
    "subject", ["資料のご案内", "長い" * 90, "Hello", "a" * 300, "=?utf-8?q?x?=", "Re: 100% 😀 " * 12, "a b " * 60, "x"]
)
@pytest.mark.parametrize(
    "name", ["山田 太郎", "とても" * 30, 'Ann "The\\Boss" Lee', "Lee, Ann <x@y>", "José", "", None, "A" * 200]
)
def test_subject_and_names_come_back_as_they_were(subject: str, name: str | None) -> None:
    message = built(subject, name)
    headers, read = raw_headers(message), parsed(message)
    assert decoded(headers["Subject"]) == subject
    assert read["Subject"] == subject
    assert decoded(headers["From"]).startswith("点検ノート編集部")
    (to,) = read["To"].addresses
    assert to.addr_spec == "taro@example.jp"
    if "=?" in headers["To"]:  # the standard parser puts spaces between encoded words in a name (bpo-35547)
        assert decoded(headers["To"]) == f"{name} <taro@example.jp>"
    else:
        assert to.display_name == (name or "")
    for line in message.split(b"\r\n"):
        assert len(line) <= 998
        assert not line.startswith(b"Subject") or len(line) <= 78


def test_two_attempts_at_a_delivery_are_the_same_bytes() -> None:
    assert built() == built()


def test_every_line_ends_in_crlf_and_is_seven_bit() -> None:
    message = built()
    assert b"\n" not in message.replace(b"\r\n", b"")
    assert b"\r" not in message.replace(b"\r\n", b"")
    assert message.isascii()


def test_text_comes_before_html_and_both_decode() -> None:
    read = parsed(built())
    assert read.get_content_type() == "multipart/alternative"
    parts = list(read.iter_parts())
    assert [part.get_content_type() for part in parts] == ["text/plain", "text/html"]
    texts = [str(part.get_content()) for part in parts]  # the parser's own line ends
    assert [text.replace("\r\n", "\n") for text in texts] == ["こんにちは\n.dot\n", "<p>こんにちは</p>\n"]
    assert b"".join(base64.b64encode("こんにちは\r\n.dot\r\n".encode()).split()) in built().replace(b"\r\n", b""), (
        "CRLF inside too"
    )
    assert read["Date"].datetime == NOW


def test_plain_ascii_is_sent_as_it_is() -> None:
    """Filters count text that is hidden in base64 without need against its sender."""
    rendered = Rendered("Hello", "", "<p>Hello</p>\n", "Hello\n.dot", "product", SENDER)
    message = build(rendered, to="taro@example.jp", to_name=None, sender=SENDER, message_id=ID, date=NOW)
    assert b"\r\n\r\nHello\r\n.dot\r\n--=_" in message
    assert [part["Content-Transfer-Encoding"] for part in parsed(message).iter_parts()] == ["7bit", "7bit"]


@pytest.mark.parametrize("text", ["x" * 999, "a\nFrom the start\nb", "a\x00b", "=_" + ID])
def test_ascii_that_would_not_arrive_as_it_is_goes_in_base64(text: str) -> None:
    rendered = Rendered("Hello", "", "<p>x</p>", text, "product", SENDER)
    message = build(rendered, to="taro@example.jp", to_name=None, sender=SENDER, message_id=ID, date=NOW)
    plain = next(iter(parsed(message).iter_parts()))
    assert plain.get_payload(decode=True) == text.replace("\n", "\r\n").encode()
    assert max(map(len, message.split(b"\r\n"))) <= 998


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=400)
FIELDS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=200)


@given(subject=FIELDS, name=FIELDS, plain=TEXTS, page=TEXTS, scope=FIELDS)
def test_whatever_is_written_comes_back_by_a_parser_that_did_not_write_it(
    subject: str, name: str, plain: str, page: str, scope: str
) -> None:
    rendered = Rendered(subject, "", page, plain, "", SENDER)
    message = build(
        rendered, to="taro@example.jp", to_name=name, sender=SENDER, message_id=ID, date=NOW, headers=[("X-Mebae-Scenario", scope)]
    )
    assert message.isascii()
    assert b"\n" not in message.replace(b"\r\n", b"")
    assert max(map(len, message.split(b"\r\n"))) <= 998
    headers = raw_headers(message)
    assert decoded(headers["Subject"]).strip(" ") == subject.strip(" ")
    assert decoded(headers["X-Mebae-Scenario"]).strip(" ") == scope.strip(" ")
    read = message_from_bytes(message, policy=policy.compat32)
    parts = read.get_payload() if page else [read]
    for part, written in zip(parts, (plain, page) if page else (plain,), strict=True):  # type: ignore[arg-type]
        lines = written.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n")
        got = part.get_payload(decode=True).decode()  # type: ignore[union-attr]
        assert got.removesuffix("\r\n") == lines.removesuffix("\r\n")


@pytest.mark.parametrize("field", ["subject", "name", "text"])
def test_half_a_character_is_refused_and_not_sent_as_something_else(field: str) -> None:
    half = {"subject": "x", "name": "x", "text": "x"} | {field: "a\ud83d"}
    rendered = Rendered(half["subject"], "", "<p>x</p>", half["text"], "", SENDER)
    with pytest.raises(BrokenMail):
        build(rendered, to="taro@example.jp", to_name=half["name"], sender=SENDER, message_id=ID, date=NOW)


@pytest.mark.parametrize("length", [40, 76, 77, 78, 200, 400])
def test_one_click_unsubscribe_survives_long_urls(length: int) -> None:
    url = "https://example.com/u/" + "Ab-_9=&%2F" * 60
    url = url[:length]
    mailto = "mailto:unsubscribe+abcdef@example.com?subject=unsubscribe"
    message = built(list_unsubscribe=(url, mailto))
    headers = raw_headers(message)
    assert headers["List-Unsubscribe"] == f"<{url}>, <{mailto}>"
    assert headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert b"<" + url.encode() + b">" in message, "the URL stands in one line, as it is"
    assert raw_headers(built(list_unsubscribe=url))["List-Unsubscribe"] == f"<{url}>"
    assert "List-Unsubscribe-Post" not in raw_headers(built(list_unsubscribe=mailto))


@pytest.mark.parametrize(
    "uri",
    [
        "https://example.com/a b",
        "https://example.com/\r\nBcc: x",
        "javascript:x",
        "https://example.com/>",
        "https://例え.jp/",
    ],
)
def test_an_unsubscribe_address_that_would_break_the_header_is_refused(uri: str) -> None:
    with pytest.raises(BrokenMail):
        built(list_unsubscribe=uri)


@pytest.mark.parametrize("bad", ["x\r\nBcc: y@example.com", "x\ny", "x\ry", "x\x00y", "x\u2028y", "x\u0085y"])
def test_a_line_break_in_any_field_is_refused(bad: str) -> None:
    for more in (
        {"subject": bad}, {"to_name": bad}, {"to": f"{bad}@example.com"}, {"to": f"a@{bad}"}, {"message_id": bad},
        {"sender": Sender(bad, "a@example.com")}, {"sender": Sender("a", f"{bad}@example.com")},
        {"headers": [("X-Mebae-Step", bad)]}, {"headers": [(bad, "x")]},
    ):  # fmt: skip
        with pytest.raises(BrokenMail):
            built(**more)


@pytest.mark.parametrize("name", ["Bcc", "From", "content-type", "List-Unsubscribe", "a b", "x:"])
def test_extra_headers_are_neither_ours_nor_secret_copies(name: str) -> None:
    with pytest.raises(BrokenMail):
        built(headers=[(name, "x")])


def test_extra_headers_may_be_japanese() -> None:
    message = built(headers=[("X-Mebae-Scenario", "ホワイトペーパーDL後フォロー"), ("X-Mebae-Step", "thanks/wait")])
    assert parsed(message)["X-Mebae-Scenario"] == "ホワイトペーパーDL後フォロー"
    assert raw_headers(message)["X-Mebae-Step"] == "thanks/wait"


@pytest.mark.parametrize(
    ("address", "spec"),
    [("taro@example.jp", "taro@example.jp"), ("a..b@docomo.ne.jp", '"a..b"@docomo.ne.jp'), (".a.@ezweb.ne.jp", '".a."@ezweb.ne.jp'),
     ('"a b"@example.com', '"a b"@example.com'), ("a+b/c=d@example.com", "a+b/c=d@example.com"), (" a@example.com ", "a@example.com"),
     ("info@日本語.example", "info@xn--wgv71a119e.example"), ('a"b@example.com', '"a\\"b"@example.com')],
)  # fmt: skip
def test_odd_but_real_addresses_are_kept(address: str, spec: str) -> None:
    assert address_spec(address) == spec
    (to,) = parsed(built(to=address, to_name=None))["To"].addresses
    assert to.domain == spec.rpartition("@")[2]


@pytest.mark.parametrize(
    "address",
    ["", "a", "a@", "@b", "太郎@example.jp", "a@b c", "a@b>", "a@b\r\n", "x" * 70 + "@example.com", "a@" + "日" * 80],
)
def test_impossible_addresses_say_so_without_naming_anyone(address: str) -> None:
    if address == "a@b\r\n":
        address = "a\r\n@b"
    with pytest.raises(BrokenMail) as broken:
        address_spec(address)
    assert str(broken.value) == ADDRESS_INVALID
    assert broken.value.detail
    assert address == "" or address not in broken.value.detail.split()


def test_message_id_is_the_same_for_every_attempt_and_different_for_every_delivery() -> None:
    ids = {
        message_id(entry, step, visit, "example.com")
        for entry in (1, 11)
        for step in ("thanks", "事例")
        for visit in (1, 2)
    }
    assert len(ids) == 8
    assert message_id(7, "thanks", 1, "example.com") == ID
    salted = message_id(7, "thanks", 1, "example.com", salt="of this workspace")
    assert salted != ID, "who does not know the salt guesses none"
    assert salted == message_id(7, "thanks", 1, "example.com", salt="of this workspace")
    assert re.fullmatch(r"<7\.1\.[0-9a-f]{20}@example\.com>", ID)
    assert parsed(built())["Message-ID"] == ID


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        built(date=datetime(2026, 4, 1))  # noqa: DTZ001


def test_a_text_mail_is_text_plain_alone() -> None:
    rendered = Rendered("件名", "", "", "日程はいかがでしょうか。\n", "", SENDER)
    message = message_from_bytes(
        build(rendered, to="taro@example.jp", to_name=None, sender=SENDER, message_id="<1@example.com>", date=NOW),
        policy=policy.default,
    )
    assert message.get_content_type() == "text/plain"
    assert not message.is_multipart()
    assert message.get_content().replace("\r\n", "\n") == "日程はいかがでしょうか。\n"
