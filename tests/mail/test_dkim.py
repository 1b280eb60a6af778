"""Signatures, checked by a verifier that did not make them, with a DNS of the test's own."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
from datetime import UTC, datetime

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from mebae.errors import BadInput
from mebae.mail.dkim import DkimSigner, relaxed_body, relaxed_field
from mebae.mail.message import build, message_id
from mebae.mail.rendering import Rendered, Sender
from mebae.mail.transport import SmtpTransport
from tests.mail.relays import relay

RSA = generate_private_key(65537, 2048)
PEM = RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
RECORD = b"v=DKIM1; k=rsa; p=" + base64.b64encode(RSA.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
SIGNER = DkimSigner.read("example.com", "spring", PEM)
NOW = datetime(2026, 4, 1, 10, 0, tzinfo=UTC)
URLS = ("https://example.com/u/" + "Ab-_9" * 75, "mailto:unsubscribe%2Babc@return.example.com?subject=unsubscribe")


def written(
    subject: str = "資料のご案内", page: str = "<p>こんにちは</p>\n", text: str = "Hello  \n.dot \n\n\n", name: str = "編集部"
) -> bytes:
    rendered = Rendered(subject, "", page, text, "product", Sender(name, "news@example.com"))
    return build(
        rendered, to="taro@example.jp", to_name="山田 太郎", sender=rendered.sender, message_id=message_id(7, "thanks", 1, "example.com"),
        date=NOW, headers=(("Feedback-ID", "a:b:c:mebae"),), list_unsubscribe=URLS,
    )  # fmt: skip


def verified(message: bytes, record: bytes = RECORD) -> bool:
    asked = []

    def dns(name: bytes, timeout: int = 5) -> bytes | None:
        asked.append(name)
        return record if name == b"spring._domainkey.example.com." else None

    try:
        good = bool(dkim.DKIM(message).verify(dnsfunc=dns))
    except dkim.ValidationError:  # the body is another one: it does not even look at the rest
        return False
    assert asked == [b"spring._domainkey.example.com."]
    return good


def test_a_signature_holds_and_covers_the_headers_of_the_one_click_unsubscribe() -> None:
    message = SIGNER.sign(written())
    assert verified(message)
    head = re.sub(rb"\r\n(?=[ \t])", b"", message.partition(b"\r\n\r\n")[0]).decode()
    signature = head.split("\r\n")[0]
    assert signature.startswith("DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.com; s=spring;")
    named = re.search(r"h=([^;]+);", signature)
    assert named is not None
    names = re.sub(r"\s", "", named[1]).split(":")
    assert {"from", "list-unsubscribe", "list-unsubscribe-post", "subject", "message-id", "feedback-id"} <= set(names)
    assert names.count("from") == names.count("list-unsubscribe") == names.count("list-unsubscribe-post") == 2
    assert max(map(len, message.split(b"\r\n"))) <= 998


@pytest.mark.parametrize(
    "change",
    [
        (b"Subject: ", b"Subject: x"), (b"List-Unsubscribe-Post: ", b"List-Unsubscribe-Post: x"),
        (b"From: ", b"From: x@evil.example\r\nFrom: "), (b"Date: ", b"List-Unsubscribe: <https://evil.example>\r\nDate: "),
        (b"Hello", b"Hallo"),
    ],
)  # fmt: skip
def test_whoever_alters_or_adds_what_is_signed_breaks_it(change: tuple[bytes, bytes]) -> None:
    message = SIGNER.sign(written())
    assert change[0] in message
    assert not verified(message.replace(*change, 1))


def test_a_server_on_the_way_may_fold_headers_and_strip_spaces() -> None:
    message = SIGNER.sign(written())
    fields, _, body = message.partition(b"\r\n\r\n")
    fields = re.sub(rb"\r\n[ \t]+", b"\r\n        ", fields).replace(b"MIME-Version: 1.0", b"mime-version:   1.0  ")
    body = body.replace(b"Hello  \r\n", b"Hello\r\n") + b"\r\n\r\n"
    assert verified(fields + b"\r\n\r\n" + body)


def test_another_key_in_the_dns_is_no_signature_of_ours() -> None:
    other = generate_private_key(65537, 2048).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert not verified(SIGNER.sign(written()), b"v=DKIM1; k=rsa; p=" + base64.b64encode(other))


WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=120).filter(str.strip)
BODY = st.text(st.sampled_from("a .\t\r\nä日"), max_size=60)


@given(subject=WORDS, name=WORDS, text=BODY, page=BODY)
def test_whatever_a_mail_says_its_signature_holds(subject: str, name: str, text: str, page: str) -> None:
    assert verified(SIGNER.sign(written(subject, page, text, name)))


@given(st.lists(st.sampled_from([b"a", b" ", b"\t", b"\r\n"]), max_size=12).map(b"".join))
def test_canonical_bodies_are_those_of_the_verifier(body: bytes) -> None:
    assert relaxed_body(body + b"\r\n") == dkim.canonicalization.Relaxed.canonicalize_body(body + b"\r\n")
    [(name, value)] = dkim.canonicalization.Relaxed.canonicalize_headers([(b"X-Test", b" " + body.replace(b"\r\n", b"") + b"\r\n")])
    assert relaxed_field(b"X-Test", b" " + body.replace(b"\r\n", b"")) == name + b":" + value


async def test_a_signature_survives_the_way_through_a_real_server() -> None:
    async def fine() -> None:
        pass

    message = SIGNER.sign(written())
    async with relay() as at:
        transport = SmtpTransport("127.0.0.1", at.port)
        await transport.deliver("bounce@example.com", "taro@example.jp", message, before_data=fine)
        await transport.aclose()
    [(_, _, arrived)] = at.mails
    assert verified(arrived)


def test_an_ed25519_signature_is_over_the_hash_of_the_headers() -> None:
    """RFC 8463 §3; the verifier of the other tests knows RSA only."""
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    message = DkimSigner.read("example.com", "spring", pem.replace("\n", "\\n")).sign(written())
    fields = dkim.rfc822_parse(message)[0]
    signature = dkim.util.parse_tag_value(fields[0][1])
    names = [name.strip().lower() for name in signature[b"h"].split(b":")]
    covered = dkim.canonicalization.Relaxed.canonicalize_headers(dkim.select_headers(fields, names))
    own = re.sub(rb"b=[^;]*\Z", b"b=", fields[0][1])
    [last] = dkim.canonicalization.Relaxed.canonicalize_headers([(fields[0][0], own)])
    data = b"".join(name + b":" + value for name, value in covered) + last[0] + b":" + last[1].rstrip()
    key.public_key().verify(base64.b64decode(re.sub(rb"\s", b"", signature[b"b"])), hashlib.sha256(data).digest())


@pytest.mark.parametrize("pem", ["", "no key", PEM[:100], PEM.replace("PRIVATE", "PUBLIC")], ids=["none", "words", "cut", "public"])
def test_a_key_that_is_none_is_told_without_showing_it(pem: str) -> None:
    with pytest.raises(BadInput) as told:
        DkimSigner.read("example.com", "spring", pem)
    assert not pem or pem not in str(told.value)
    assert PEM[30:60] not in repr(SIGNER)


def test_a_key_that_receivers_do_not_take_is_refused() -> None:
    made = subprocess.run(["openssl", "genrsa", "768"], capture_output=True, text=True, check=True)
    with pytest.raises(BadInput):
        DkimSigner.read("example.com", "spring", made.stdout)
