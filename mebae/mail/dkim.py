"""DKIM signatures (RFC 6376; RFC 8463 for Ed25519): who sends says so in a way that mail servers can check.

Both parts are canonicalised `relaxed`, since servers on the way fold headers anew and strip white space. Optional: where
the mail server signs by itself, nothing is set here.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from mebae.errors import BadInput
from mebae.mail.message import Wire

SIGNED = (
    "from", "to", "subject", "date", "message-id", "list-unsubscribe", "list-unsubscribe-post", "reply-to", "feedback-id",
    "auto-submitted", "precedence", "mime-version", "content-type", "content-transfer-encoding",
)  # fmt: skip
"""The headers that the signature covers, where there are any. RFC 8058 §4 asks for both of `List-Unsubscribe`."""
SEALED = ("from", "to", "subject", "date", "reply-to", "list-unsubscribe", "list-unsubscribe-post")
"""Named once more than they occur, so that nobody adds another one on the way (RFC 6376 §8.15)."""
SHORTEST = 1024
"""Bits of an RSA key. Receivers take no shorter ones (RFC 8301 §3.2), and 2048 are usual."""

_FIELD = re.compile(rb"([!-9;-~]+):(.*(?:\r\n[ \t].*)*)\r\n")
_FOLD = re.compile(rb"\r\n(?=[ \t])")
_SPACE = re.compile(rb"[ \t]+")
_LAST = re.compile(rb"(?:\r\n)+\Z")


@dataclass(frozen=True)
class DkimSigner:
    """Signs for one domain.

    Args:
        selector: the name of the key: its public half stands in the DNS at `<selector>._domainkey.<domain>`.
    """

    domain: str
    selector: str
    key: RSAPrivateKey | Ed25519PrivateKey = field(repr=False)

    @classmethod
    def read(cls, domain: str, selector: str, pem: str) -> DkimSigner:
        """From a private key in PEM; line breaks may be written as `\\n`, as environment files need. Raises `BadInput`, which
        shows nothing of the key."""
        try:
            key = load_pem_private_key(pem.replace("\\n", "\n").encode(), None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, RSAPrivateKey | Ed25519PrivateKey):
            raise BadInput("it is a private key in PEM, without a pass phrase: RSA of 2048 bits, or Ed25519")
        if isinstance(key, RSAPrivateKey) and key.key_size < SHORTEST:
            raise BadInput(f"an RSA key has {SHORTEST} bits or more; 2048 are usual")
        return cls(domain, selector, key)

    def __reduce__(self) -> tuple[Any, tuple[str, str, str]]:
        """For the process beside (`mebae.mail.composing_beside`): keys of the library do not travel."""
        pem = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        return type(self).read, (self.domain, self.selector, pem)

    def sign(self, message: bytes) -> bytes:
        """The message with its signature as the first header.

        `message`: as `mebae.mail.message.build` makes it, lines ended by CRLF.
        """
        head, _, body = message.partition(b"\r\n\r\n")
        fields = [(name.lower(), value) for name, value in _FIELD.findall(head + b"\r\n")]
        named, signed = _chosen(fields)
        algorithm = "rsa-sha256" if isinstance(self.key, RSAPrivateKey) else "ed25519-sha256"
        body_hash = base64.b64encode(hashlib.sha256(relaxed_body(body)).digest()).decode()
        signature = (
            f" v=1; a={algorithm}; c=relaxed/relaxed; d={self.domain}; s={self.selector};\r\n"
            f"\th={_folded(':'.join(named), ':')};\r\n\tbh={body_hash};\r\n\tb="
        ).encode("ascii")
        data = b"".join(signed) + relaxed_field(b"dkim-signature", signature).removesuffix(b"\r\n")
        value = base64.b64encode(self._signed(data)).decode()
        lines = "\r\n\t ".join(value[at : at + 72] for at in range(0, len(value), 72))
        whole = b"DKIM-Signature:" + signature + lines.encode() + b"\r\n" + message
        return Wire(whole) if isinstance(message, Wire) else whole

    def _signed(self, data: bytes) -> bytes:
        if isinstance(self.key, Ed25519PrivateKey):
            return self.key.sign(hashlib.sha256(data).digest())
        return self.key.sign(data, PKCS1v15(), hashes.SHA256())


def _chosen(fields: list[tuple[bytes, bytes]]) -> tuple[list[str], list[bytes]]:
    """The names for `h=`, and the fields themselves in that order: of several of one name the last first (RFC 6376 §5.4.2)."""
    named: list[str] = []
    signed: list[bytes] = []
    for name in SIGNED:
        values = [value for known, value in fields if known == name.encode()]
        for value in reversed(values):
            named.append(name)
            signed.append(relaxed_field(name.encode(), value))
        if name in SEALED:
            named.append(name)
    return named, signed


def relaxed_field(name: bytes, value: bytes) -> bytes:
    """A header as RFC 6376 §3.4.2 canonicalises it."""
    return name.lower() + b":" + _SPACE.sub(b" ", _FOLD.sub(b"", value)).strip(b" \t") + b"\r\n"


def relaxed_body(body: bytes) -> bytes:
    """A body as RFC 6376 §3.4.4 canonicalises it: white space at line ends and empty lines at the end do not count."""
    body = _LAST.sub(b"", _SPACE.sub(b" ", body).replace(b" \r\n", b"\r\n"))
    return body + b"\r\n" if body else b""


def _folded(text: str, at: str) -> str:
    """In lines of some 70 characters, broken after `at`."""
    lines, line = [], ""
    for part in text.split(at):
        if line and len(line) + len(part) > 70:
            lines.append(line)
            line = ""
        line += part + at
    return "\r\n\t ".join([*lines, line]).removesuffix(at)
