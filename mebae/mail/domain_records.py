"""Whether a domain's DNS records let its mail arrive: SPF, DKIM, DMARC and MX, as receivers read them.

Gmail and Yahoo take bulk mail (from 5,000 a day on) only with SPF and DKIM, a DMARC policy of at least `p=none`, and a From
domain that is aligned with one of the two (RFC 7489 §3.1). The look-up is a parameter, so that it can be pointed elsewhere.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from mebae.checkup import Finding, bad, good, unsure

Lookup = Callable[[str, str], Sequence[str] | None]
"""Name and type (`TXT`, `MX`) → the records as text; empty if there is none, None if nobody answered."""

AREA = "domain"
MOST_LOOKUPS = 10
"""RFC 7208 §4.6.4: an SPF record that needs more look-ups is an error, and counts as none."""
_COSTS = re.compile(r"^[+?~-]?(include:|a\b|mx\b|ptr\b|exists:)|^redirect=")
_TWO_LABELS = re.compile(r"[^.]+\.(?:co|ne|or|go|ac|ad|ed|gr|lg|com|net|org|gov|edu)\.[a-z]{2}$|[^.]+\.[^.]+$")


def look_at_domain(
    lookup: Lookup, *, sender: str, bounces: str = "", dkim: str = "", selector: str = "", key: str | None = None
) -> list[Finding]:
    """All that DNS says of a sender.

    Args:
        sender: the From address's domain.
        bounces: the domain of the return addresses; empty: the sender's own.
        dkim, selector, key: what mails are signed with here, if they are.
    """
    found = [
        *_spf(lookup, bounces or sender),
        *_dkim(lookup, dkim, selector, key),
        *_dmarc(lookup, sender, bounces, dkim),
    ]
    return found + (_mx(lookup, bounces) if bounces else [])


def organisation(domain: str) -> str:
    """The domain under which DMARC looks when it is relaxed, by the endings that are in use in Japan and elsewhere.

    >>> organisation("news.mail.example.co.jp"), organisation("mail.example.com")
    ('example.co.jp', 'example.com')
    """
    match = _TWO_LABELS.search(domain.lower().rstrip("."))
    return match.group() if match else domain.lower()


def _texts(lookup: Lookup, name: str, begins: str) -> list[str] | None:
    records = lookup(name, "TXT")
    return None if records is None else [one for one in records if one.lower().startswith(begins)]


def _silent(what: str, name: str) -> Finding:
    return unsure(
        AREA, what, f"the DNS did not answer for {name}", "try again later, or name a resolver by MEBAE_DNS_SERVER"
    )


def _spf(lookup: Lookup, domain: str) -> list[Finding]:
    records = _texts(lookup, domain, "v=spf1")
    if records is None:
        return [_silent("SPF", domain)]
    if not records:
        cure = f'publish a TXT record at {domain}, such as "v=spf1 include:your-provider.example ~all"'
        return [bad(AREA, "SPF", f"{domain} has no SPF record", cure)]
    if len(records) > 1:
        return [
            bad(
                AREA,
                "SPF",
                f"{domain} has {len(records)} SPF records, and so none counts (RFC 7208 §4.5)",
                "join them into one",
            )
        ]
    terms = records[0].split()[1:]
    end = next((term for term in reversed(terms) if term.lower().lstrip("+?~-") == "all"), "")
    redirects = any(term.lower().startswith("redirect=") for term in terms)
    if end in ("all", "+all"):
        return [bad(AREA, "SPF", f"{domain} lets everybody send in its name ({end})", "end it with ~all or -all")]
    costs = _lookups(lookup, domain, set())
    if costs > MOST_LOOKUPS:
        cure = "leave out what you do not use, or write addresses (ip4:) instead of names"
        return [
            bad(
                AREA,
                "SPF",
                f"{domain} needs {costs} look-ups; more than {MOST_LOOKUPS} are an error (RFC 7208 §4.6.4)",
                cure,
            )
        ]
    if not end and not redirects:
        return [
            unsure(
                AREA,
                "SPF",
                f"{domain} has SPF without an end",
                "end it with ~all or -all, so that others are told apart",
            )
        ]
    return [good(AREA, "SPF", f"{domain}: {records[0]}")]


def _lookups(lookup: Lookup, domain: str, seen: set[str]) -> int:
    """How many look-ups the record costs a receiver, those of what it includes among them."""
    if domain in seen or len(seen) > MOST_LOOKUPS:
        return 0
    seen.add(domain)
    records = _texts(lookup, domain, "v=spf1") or []
    count = 0
    for term in records[0].split()[1:] if records else []:
        count += bool(_COSTS.match(term.lower()))
        for begins in ("include:", "redirect="):
            if term.lower().lstrip("+?~-").startswith(begins):
                count += _lookups(lookup, term.split(begins[-1], 1)[1].rstrip("."), seen)
    return count


def _dkim(lookup: Lookup, domain: str, selector: str, key: str | None) -> list[Finding]:
    if not domain or not selector:
        cure = "if your mail server or provider signs, see that it does; else set MEBAE_DKIM_DOMAIN, _SELECTOR and _KEY"
        return [unsure(AREA, "DKIM", "mails are not signed here", cure)]
    name = f"{selector}._domainkey.{domain}"
    records = lookup(name, "TXT")
    if records is None:
        return [_silent("DKIM", name)]
    tags = next((_tags(one) for one in records if "p=" in one), None)
    public = _public(key) if key else None
    if key and public is None:
        cure = "it is a private key in PEM, without a pass phrase: RSA of 2048 bits, or Ed25519"
        return [bad(AREA, "DKIM", "MEBAE_DKIM_KEY cannot be read", cure)]
    kind, own = public or ("rsa", "…")
    if tags is None:
        return [
            bad(AREA, "DKIM", f"there is no key at {name}", f'publish a TXT record there: "v=DKIM1; k={kind}; p={own}"')
        ]
    if not tags.get("p"):
        words = f"the key at {name} was withdrawn (p is empty)"
        return [bad(AREA, "DKIM", words, "publish the key that belongs to MEBAE_DKIM_KEY")]
    if public is not None and tags["p"].replace(" ", "") != own:
        words = f"the key at {name} is another one than MEBAE_DKIM_KEY's, so every signature is wrong"
        return [bad(AREA, "DKIM", words, f"publish p={own}")]
    return [good(AREA, "DKIM", f"{name} holds {'the key that we sign with' if public else 'a key'}")]


def _public(pem: str) -> tuple[str, str] | None:
    """The kind of a private key, and its public half as DKIM writes it (RFC 6376 §3.6.1, RFC 8463)."""
    try:
        key = load_pem_private_key(pem.encode(), None).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    if type(key).__name__.startswith("Ed25519"):
        return "ed25519", base64.b64encode(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
    return "rsa", base64.b64encode(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


def _dmarc(lookup: Lookup, sender: str, bounces: str, dkim: str) -> list[Finding]:
    records = _texts(lookup, f"_dmarc.{sender}", "v=dmarc1")
    if not records and records is not None and organisation(sender) != sender:
        records = _texts(lookup, f"_dmarc.{organisation(sender)}", "v=dmarc1")
    if records is None:
        return [_silent("DMARC", f"_dmarc.{sender}")]
    home = organisation(sender)
    if len(records) != 1:
        words = f"{len(records)} DMARC records, and so none counts" if records else "no DMARC record"
        cure = f'publish one TXT record at _dmarc.{home}, at least "v=DMARC1; p=none; rua=mailto:dmarc@{home}"'
        return [bad(AREA, "DMARC", f"_dmarc.{sender} has {words}", cure)]
    tags = _tags(records[0])
    if tags.get("p", "").lower() not in ("none", "quarantine", "reject"):
        return [
            bad(AREA, "DMARC", f"the policy of {records[0]!r} cannot be read", "write p=none, p=quarantine or p=reject")
        ]
    found = [good(AREA, "DMARC", records[0])]
    by_spf = _aligned(sender, bounces or sender, tags.get("aspf", "r"))
    by_dkim = bool(dkim) and _aligned(sender, dkim, tags.get("adkim", "r"))
    if by_spf or by_dkim:
        ways = " and ".join(way for way, is_so in (("SPF", by_spf), ("DKIM", by_dkim)) if is_so)
        return [*found, good(AREA, "From aligned", f"{sender} by {ways}")]
    words = f"neither return addresses ({bounces}) nor signatures ({dkim or 'none'}) are of {sender}"
    cure = f"set MEBAE_BOUNCE_DOMAIN or MEBAE_DKIM_DOMAIN to {home} or a domain below it"
    return [*found, bad(AREA, "From aligned", words, cure)]


def _aligned(sender: str, other: str, mode: str) -> bool:
    return sender.lower() == other.lower() or (mode.lower() != "s" and organisation(sender) == organisation(other))


def _mx(lookup: Lookup, bounces: str) -> list[Finding]:
    records = lookup(bounces, "MX")
    if records is None:
        return [_silent("MX", bounces)]
    if not records:
        cure = f"publish an MX record at {bounces} that leads to MEBAE_BOUNCE_PORT, or read a maildir: see docs/how-to"
        return [bad(AREA, "MX", f"bounces to {bounces} reach nobody: it has no MX record", cure)]
    return [good(AREA, "MX", f"{bounces}: {', '.join(records)}")]


def _tags(record: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in record.split(";"))
    return {name.strip().lower(): value.strip() for name, _, value in pairs if name.strip()}
