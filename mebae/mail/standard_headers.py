"""Headers by which mail servers and programs know what kind of mail this is."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

from mebae.mail.domain_records import organisation
from mebae.mail.rendering import BrokenMail


@lru_cache(maxsize=1024)
def automatic(scope: str, mail: str, sender: str, *, bulk: bool) -> tuple[tuple[str, str], ...]:
    """For a mail that a program wrote.

    - `Auto-Submitted` (RFC 3834 §5): absence notices are not sent back to it.
    - `Feedback-ID`: by which Gmail tells in its Postmaster Tools what is complained of. The last field stands for the sender.
    - `Precedence: bulk`, which is no standard and heeded all the same: for mail to many.

    Args:
        scope, mail: what is complained of: the scenario or broadcast, and the mail in it.
        sender: the sender's address.

    >>> automatic("spring", "news", "news@mebae.example", bulk=True)[1]
    ('Feedback-ID', 'news:spring:broadcast:572831da2f')
    """
    domain = sender.rpartition("@")[2].lower()
    customer = hashlib.sha256(domain.encode()).hexdigest()[:10]
    feedback = ":".join((_word(mail), _word(scope), "broadcast" if bulk else "journey", customer))
    headers = (("Auto-Submitted", "auto-generated"), ("Feedback-ID", feedback))
    return (*headers, ("Precedence", "bulk")) if bulk else headers


def check_aligned(address: str, sender: str) -> None:
    """Whether a mail may be from this address: one of the same organisation as the sender's, since what is signed and returned is
    that one's, and receivers drop what pretends to be another's (DMARC). Raises `BrokenMail` (code `from-not-aligned`)."""
    if organisation(address.rpartition("@")[2]) != organisation(sender.rpartition("@")[2]):
        raise BrokenMail(
            "'from' is of another organisation than MEBAE_SENDER_EMAIL: receivers would drop it", "from-not-aligned"
        )


def _word(text: str) -> str:
    """Without what separates the fields, and short: longer ones are not counted."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:40] or "-"
