"""The addresses that mail comes back to, and what mail servers on the way make of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mebae.mail import return_addresses
from mebae.mail.message import address_spec
from mebae.mail.return_addresses import (
    ReturnAddress,
    bounce_address,
    unsubscribe_address,
    unsubscribe_mailto,
    unsubscribe_subject_mailto,
)
from mebae.tokens import Kind, Tokens

TOKENS = Tokens.read_keys(["20260101:a-secret-of-the-tests"])
NOW = datetime(2026, 11, 27, 1, 0, tzinfo=UTC)
DOMAIN = "return.mebae.example"
MAKERS = {Kind.BOUNCE: bounce_address, Kind.UNSUBSCRIBE: unsubscribe_address}


@given(delivery=st.integers(1, 2**63 - 1), kind=st.sampled_from(sorted(MAKERS)), upper=st.booleans())
def test_address_of_any_delivery_fits_and_comes_back_in_any_case(delivery: int, kind: Kind, upper: bool) -> None:
    address = MAKERS[kind](TOKENS, delivery, DOMAIN, now=NOW)

    assert len(address.rpartition("@")[0]) <= 64
    assert address_spec(address) == address
    back = address.upper() if upper else address
    assert return_addresses.read(TOKENS, back, now=NOW) == ReturnAddress(kind, delivery)


@pytest.mark.parametrize("shape", ["<{}>", " {} ", '"{local}"@{domain}', "{}."])
@pytest.mark.parametrize("separator", "+-=_.")
def test_separators_and_wrappings_of_other_servers_are_read(shape: str, separator: str) -> None:
    local, _, domain = bounce_address(TOKENS, 7, DOMAIN, now=NOW).replace("+", separator).rpartition("@")

    seen = shape.format(f"{local}@{domain}", local=local, domain=domain)

    assert return_addresses.read(TOKENS, seen, now=NOW) == ReturnAddress(Kind.BOUNCE, 7)


@given(at=st.integers(7, 40), letter=st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
def test_altered_address_is_nobodys(at: int, letter: str) -> None:
    address = bounce_address(TOKENS, 7, DOMAIN, now=NOW)
    local, _, domain = address.rpartition("@")
    at = min(at, len(local) - 1)
    altered = f"{local[:at]}{letter}{local[at + 1 :]}@{domain}"

    read = return_addresses.read(TOKENS, altered, now=NOW)

    if altered == address:
        assert read == ReturnAddress(Kind.BOUNCE, 7)
    elif at == len(local) - 1:  # the last letter may hold bits that nothing reads: then it is the same token
        assert read in (None, ReturnAddress(Kind.BOUNCE, 7))
    else:
        assert read is None


def test_bounce_address_unsubscribes_nobody() -> None:
    swapped = bounce_address(TOKENS, 7, DOMAIN, now=NOW).replace("bounce", "unsubscribe")

    assert return_addresses.read(TOKENS, swapped, now=NOW) is None


@pytest.mark.parametrize(
    "address",
    ["", "@", "bounce@return.example", "bounce+@x", "sato@aoba.example", f"bounce+{'a' * 300}@x", "bounce+é@x", "x+a"],
)
def test_other_addresses_are_nobodys(address: str) -> None:
    assert return_addresses.read(TOKENS, address, now=NOW) is None


def test_address_is_read_as_long_as_its_key() -> None:
    address = bounce_address(TOKENS, 7, DOMAIN, now=NOW)
    changed = Tokens.read_keys(["20260101:a-secret-of-the-tests", "20261201:the-next-secret-of-all"])

    assert return_addresses.read(changed, address, now=NOW + timedelta(days=300)) is not None
    assert return_addresses.read(changed, address, now=NOW + timedelta(days=400)) is None


def test_mailto_says_the_same_address_without_a_bare_plus() -> None:
    uri = urlsplit(unsubscribe_mailto(TOKENS, 7, DOMAIN, now=NOW))

    assert (uri.scheme, uri.query) == ("mailto", "subject=unsubscribe")
    assert "+" not in uri.path
    assert unquote(uri.path) == unsubscribe_address(TOKENS, 7, DOMAIN, now=NOW)


def test_mailto_without_a_domain_of_ours_has_the_token_in_its_subject() -> None:
    uri = urlsplit(unsubscribe_subject_mailto(TOKENS, 7, "hello@mebae.example", now=NOW))

    assert uri.path == "hello@mebae.example"
    subject = unquote(uri.query.removeprefix("subject="))
    assert return_addresses.read(TOKENS, subject, now=NOW) == ReturnAddress(Kind.UNSUBSCRIBE, 7)
    assert list(return_addresses.find_all([f"Re: {subject} please"])) == [subject]
