"""The content catalogue, and which piece of it suits a lead. Pure: the catalogue is data, the choice a function of it.

`scenarios/content.py` lists white papers, cases, articles and films with what they are about; `send_next` and the
recommendations in mails choose from it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

DEFAULT_LANGUAGE = "ja"


@dataclass(frozen=True)
class Piece:
    """One piece of content."""

    id: str
    titles: Mapping[str, str]
    """By language."""
    links: Mapping[str, str]
    """By language: a piece exists in those languages only."""
    stages: tuple[str, ...] = ()
    """For whom it is written: leads at these stages. Empty: at any."""
    industries: tuple[str, ...] = ()
    """Groups of industries (`lead.industry_group`). Empty: any."""
    topics: tuple[str, ...] = ()
    """What it is about; a lead that is interested in one of them comes first."""
    kind: str = ""
    """`whitepaper`, `case`, `article`, `film` …, for mails to say."""
    content: str = ""
    """The name under which a download of it is an event (`Content Downloaded {content}`); the id if empty."""
    summaries: Mapping[str, str] = field(default_factory=dict)

    @property
    def known_as(self) -> str:
        return self.content or self.id

    def title(self, language: str) -> str:
        return _in(self.titles, language) or self.id

    def link(self, language: str) -> str:
        return _in(self.links, language) or next(iter(self.links.values()), "")

    def values(self, language: str) -> dict[str, str]:
        """What a mail may say of it."""
        return {
            "id": self.id, "title": self.title(language), "link": self.link(language), "kind": self.kind,
            "summary": _in(self.summaries, language) or "",
        }  # fmt: skip


@dataclass(frozen=True)
class Reader:
    """A lead, as far as choosing content needs to know it."""

    language: str
    stage: str
    industry: str | None = None
    topics: tuple[str, ...] = ()
    had: frozenset[str] = frozenset()
    """Ids of the pieces that it was sent."""
    read: frozenset[str] = frozenset()
    """Names of contents that it downloaded, and links that it followed or pages that it saw."""


def speaks(piece: Piece, language: str) -> bool:
    """Whether a piece exists in a lead's language.

    >>> speaks(Piece("a", {"ja": "事例"}, {"ja": "https://x.example/a"}), "ja-JP")
    True
    """
    return bool(_in(piece.links, language)) or "" in piece.links


def next_piece(
    pieces: Sequence[Piece],
    reader: Reader,
    *,
    topics: Collection[str] = (),
    kinds: Collection[str] = (),
    stage: str | None = None,
) -> Piece | None:
    """The piece that a lead should get next; None if it has had all that suits it.

    It suits if it is in the lead's language, for its stage and its industry, and of the wanted topics and kinds; one that the lead
    was sent or has read is never chosen. Of those that suit, the one that shares most topics with the lead comes first, then one
    made for its industry, then one made for its stage, then the order written.

    Args:
        topics, kinds: only pieces of one of these; empty: of any.
        stage: for leads of this stage instead of the lead's own.
    """
    found = suiting(pieces, reader, topics=topics, kinds=kinds, stage=stage)
    return found[0] if found else None


def suiting(
    pieces: Sequence[Piece],
    reader: Reader,
    *,
    topics: Collection[str] = (),
    kinds: Collection[str] = (),
    stage: str | None = None,
) -> list[Piece]:
    """All pieces that suit a lead and are new to it, the best first. See `next_piece`."""
    at = stage or reader.stage

    def suits(piece: Piece) -> bool:
        return (
            speaks(piece, reader.language)
            and (not piece.stages or at in piece.stages)
            and (not piece.industries or reader.industry in piece.industries)
            and (not topics or not set(topics).isdisjoint(piece.topics))
            and (not kinds or piece.kind in kinds)
            and not _knows(reader, piece)
        )

    def rank(place: int) -> tuple[int, int, int, int]:
        piece = pieces[place]
        shared = sum(topic in reader.topics for topic in piece.topics)
        return (-shared, -bool(piece.industries), -bool(piece.stages), place)

    return [pieces[place] for place in sorted((at for at, piece in enumerate(pieces) if suits(piece)), key=rank)]


def related(pieces: Sequence[Piece], reader: Reader, *, most: int = 3, but: Collection[str] = ()) -> list[Piece]:
    """What a mail recommends beside its own matter: the best that suit and are new. `but`: not these."""
    return [piece for piece in suiting(pieces, reader) if piece.id not in but][:most]


def _knows(reader: Reader, piece: Piece) -> bool:
    return piece.id in reader.had or piece.known_as in reader.read or not reader.read.isdisjoint(piece.links.values())


def _in(words: Mapping[str, str], language: str) -> str | None:
    """The one in this language, or in the language without its region, or that for any language."""
    tag = language.lower().replace("_", "-")
    while tag:
        if tag in words:
            return words[tag]
        tag = tag.rpartition("-")[0]
    return words.get("")
