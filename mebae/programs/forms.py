"""`mebae forms`: the forms of `scenarios/forms.py`, and their HTML to paste."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from mebae.errors import NotFound
from mebae.forms import html_of
from mebae.forms_loading import FORMS_FILE, load_forms
from mebae.programs.house import find_root
from mebae.programs.screen import screen
from mebae.wiring import load_settings


def forms(id: str | None, url: str | None) -> None:
    """Lists the forms; with an id, prints that form's HTML."""
    settings = load_settings()
    home = find_root() / settings.scenarios
    found = load_forms(home)
    address = (url or f"http://{settings.host}:{settings.port}").rstrip("/")
    if id is not None:
        if id not in (found or {}):
            raise NotFound("form", id, found or ())
        print(html_of((found or {})[id], address))
        return
    console = screen()
    if not found:
        console.print(f"There are no forms: write scenarios/{FORMS_FILE}, as docs/how-to/forms.md shows.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("form", "required", "consent", "then", "title"):
        table.add_column(name, no_wrap=name == "form", overflow="fold")
    for form in found.values():
        agree = form.consent.field if form.consent is not None else ""
        cells = (form.id, ", ".join(form.required), agree, form.redirect, form.title)
        table.add_row(*map(escape, cells))
    console.print(table)
    console.print(f"Pages post them to {escape(address)}/forms/<form>; `mebae forms <form>` prints the HTML.", soft_wrap=True)
