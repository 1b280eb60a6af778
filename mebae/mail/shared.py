"""What mails have in common: the layouts of `scenarios/layouts/`, and the blocks of `scenarios/blocks/`."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from mebae.errors import did_you_mean
from mebae.mail.source import MailSource
from mebae.mail.templating import Block, BrokenMail
from mebae.mailing import ANY, LANGUAGES

_SHOWN = re.compile(r"""\bblock\(\s*["']([^"']+)["']""")
_STANDARD = ("footer.ja.md", "footer.en.md")


@dataclass(frozen=True)
class Shared:
    """Layouts by name, and blocks by name and language (`""`: every language).

    >>> shared = Shared({}, {"signature": {"ja": "編集部より", "en": "The editors"}})
    >>> shared.blocks_for("en-GB")["signature"].source
    'The editors'
    """

    layouts: Mapping[str, str]
    blocks: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    _chosen: dict[tuple[str, Sequence[str]], Mapping[str, Block]] = field(default_factory=dict, repr=False, compare=False)

    def layout_of(self, mail: MailSource) -> str:
        """What lays a mail out; nothing does one that is a whole page or text. Raises `BrokenMail` (code `layout-missing`)."""
        return self.layout(mail.layout) if mail.format == "markdown" else ""

    def layout(self, name: str) -> str:
        """Raises `BrokenMail` (code `layout-missing`)."""
        if name not in self.layouts:
            raise BrokenMail(f"layout '{name}' was never published{did_you_mean(name, self.layouts)}", "layout-missing")
        return self.layouts[name]

    def blocks_for(self, language: str, languages: Sequence[str] = LANGUAGES) -> Mapping[str, Block]:
        """Each block in this language or the next in the chain; those of this house where there is none of that name."""
        key = (language, tuple(languages))
        if key not in self._chosen:
            self._chosen[key] = {
                name: _variant(name, by_language, language, languages)
                for name, by_language in {**standard_blocks(), **self.blocks}.items()
            }
        return self._chosen[key]


def with_blocks_shown(source: str, blocks: Mapping[str, Block]) -> str:
    """A mail's source with those of the blocks that it shows, and that they show: all that can name a value."""
    texts, seen = [source], set[str]()
    for text in texts:
        for name in _SHOWN.findall(text):
            if name in blocks and name not in seen:
                seen.add(name)
                texts.append(blocks[name].source)
    return "\n".join(texts)


def choose_language(available: Collection[str], wanted: str, languages: Sequence[str] = LANGUAGES) -> str:
    """The variant for a lead: its language, that without the region, then the chain (`"any"`: the text for every language).

    >>> choose_language(["ja", "en"], "en-GB")
    'en'
    >>> choose_language(["ja", ""], "fr")
    ''
    >>> choose_language(["ja", "en"], "fr", ["en", "ja"])
    'en'
    """
    if not available:
        raise BrokenMail("the mail has no text in any language")
    by_tag = {_tag(language): language for language in sorted(available)}
    tag = _tag(wanted or "")
    while tag:
        if tag in by_tag:
            return by_tag[tag]
        tag = tag.rpartition("-")[0]
    chain = ("" if language == ANY else _tag(language) for language in languages)
    return next((by_tag[name] for name in chain if name in by_tag), min(available))


@cache
def standard_blocks() -> Mapping[str, Mapping[str, str]]:
    """The blocks that this house brings: `footer`, what the law wants (特定電子メール法, CAN-SPAM)."""
    found: dict[str, dict[str, str]] = {}
    for file in _STANDARD:
        name, language, _ = file.split(".")
        text = files("mebae.mail").joinpath(f"templates/{file}").read_text(encoding="utf-8")
        found.setdefault(name, {})[language] = text
    return found


def blocks_of(sources: Mapping[tuple[str, str], str]) -> dict[str, dict[str, str]]:
    """Sources by name and language, by name first."""
    found: dict[str, dict[str, str]] = {}
    for (name, language), source in sources.items():
        found.setdefault(name, {})[language] = source
    return found


def _variant(name: str, by_language: Mapping[str, str], language: str, languages: Sequence[str]) -> Block:
    chosen = choose_language(list(by_language), language, languages)
    return Block(f"blocks/{name}.{chosen}.md" if chosen else f"blocks/{name}.md", by_language[chosen])


def _tag(language: str) -> str:
    return language.strip().casefold().replace("_", "-")
