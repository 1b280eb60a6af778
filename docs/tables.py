"""Prints the tables of the reference that are made from code. From the project's root:

    .venv/bin/python -m docs.tables events

`tests/test_docs.py` checks that the pages say what this prints.
"""

from __future__ import annotations

import sys

from mebae.crm.adapter import CODES
from mebae.crm.inbound import IGNORED
from mebae.crm.model import VALUES
from mebae.events import EVENTS
from mebae.mail.bounce_reasons import TABLE
from mebae.mail.reports import MEANINGS


def events() -> str:
    """The events that have a verb of their own, from `mebae/events.py`."""
    lines = ["| write | Segment event | argument matches | meaning | aliases |", "| --- | --- | --- | --- | --- |"]
    for spec in EVENTS:
        argument = f"`{spec.property}`" if spec.property else ""
        verb = f"`{spec.verb}({spec.property or ''})`"
        aliases = ", ".join(f"`{alias}`" for alias in spec.aliases)
        lines.append(f"| {verb} | `{spec.name}` | {argument} | {spec.meaning} | {aliases} |")
    return "\n".join(lines)


def kinds() -> str:
    """What can come back, from `mebae/mail/reports.py`."""
    lines = ["| kind | means |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| `{kind.value}` | {meaning} |" for kind, meaning in MEANINGS.items())])


def reasons() -> str:
    """Why mails come back, from `mebae/mail/bounce_reasons.py`."""
    head = ["| reason | about | means | status codes |", "| --- | --- | --- | --- |"]
    rows = [(spec, ", ".join(f"`{status}`" for status in spec.statuses)) for spec in TABLE]
    return "\n".join([*head, *(f"| `{spec.reason.value}` | {spec.about} | {spec.meaning} | {codes} |" for spec, codes in rows)])


def crm_values() -> str:
    """What a field of another system can hold, from `mebae/crm/model.py`."""
    return "\n".join(["| value | what it is |", "| --- | --- |", *(f"| `{name}` | {meaning} |" for name, meaning in VALUES.items())])


def crm_codes() -> str:
    """Why something was not taken, from `mebae/crm/adapter.py`."""
    return "\n".join(["| code | meaning |", "| --- | --- |", *(f"| `{code}` | {meaning} |" for code, meaning in CODES.items())])


def crm_ignored() -> str:
    """Why a message changed nothing, from `mebae/crm/inbound.py`."""
    return "\n".join(["| reason | meaning |", "| --- | --- |", *(f"| `{code}` | {meaning} |" for code, meaning in IGNORED.items())])


TABLES = {
    "events": events, "kinds": kinds, "reasons": reasons, "crm_values": crm_values, "crm_codes": crm_codes, "crm_ignored": crm_ignored,
}  # fmt: skip

if __name__ == "__main__":
    for name in sys.argv[1:] or TABLES:
        print(TABLES[name]())
