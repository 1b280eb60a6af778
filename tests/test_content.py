"""What a lead should read next: what suits it and is new to it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mebae.beside import load_beside
from mebae.content import Piece, Reader, next_piece, related, suiting
from mebae.content_loading import load_content
from mebae.errors import ScenarioError
from mebae.vocabulary import Vocabulary

ROOT = Path(__file__).parents[1]


def a_piece(id: str, languages: str = "ja en", **more: object) -> Piece:
    links = {language: f"https://example.com/{language}/{id}" for language in languages.split()}
    return Piece(id, dict.fromkeys(links, id), links, **more)  # type: ignore[arg-type]


BASICS = a_piece("basics", stages=("awareness",))
GUIDE = a_piece("guide", topics=("automation",), kind="whitepaper")
CASE = a_piece("case-mfg", stages=("interest",), industries=("manufacturing",), kind="case")
JAPANESE = a_piece("japanese", "ja")
PIECES = [BASICS, GUIDE, CASE, JAPANESE]
SATO = Reader("ja", "interest", "manufacturing")


def ids(pieces: list[Piece]) -> list[str]:
    return [piece.id for piece in pieces]


def test_a_lead_gets_what_is_written_for_its_stage_and_industry_before_what_is_for_everybody() -> None:
    assert ids(suiting(PIECES, SATO)) == ["case-mfg", "guide", "japanese"]


def test_a_lead_that_is_interested_in_a_topic_gets_its_pieces_first() -> None:
    assert ids(suiting(PIECES, Reader("ja", "interest", "manufacturing", ("automation",)))) == ["guide", "case-mfg", "japanese"]


def test_a_lead_never_gets_what_it_was_sent_downloaded_or_followed_a_link_to() -> None:
    for knows in (
        Reader("ja", "interest", "manufacturing", had=frozenset({"case-mfg"})),
        Reader("ja", "interest", "manufacturing", read=frozenset({"case-mfg"})),
        Reader("ja", "interest", "manufacturing", read=frozenset({"https://example.com/ja/case-mfg"})),
    ):
        assert "case-mfg" not in ids(suiting(PIECES, knows))


def test_a_download_under_another_name_counts() -> None:
    paper = a_piece("guide", content="whitepaper-automation")
    assert next_piece([paper], Reader("ja", "interest", read=frozenset({"whitepaper-automation"}))) is None


def test_a_lead_gets_no_piece_in_a_language_that_it_does_not_read() -> None:
    assert "japanese" not in ids(suiting(PIECES, Reader("en-GB", "interest", "manufacturing")))


def test_an_author_may_ask_for_a_topic_a_kind_or_another_stage() -> None:
    assert ids(suiting(PIECES, SATO, topics=["automation"])) == ["guide"]
    assert ids(suiting(PIECES, SATO, kinds=["case"])) == ["case-mfg"]
    assert "basics" in ids(suiting(PIECES, SATO, stage="awareness"))


def test_a_mail_recommends_a_few_and_not_its_own_matter() -> None:
    assert ids(related(PIECES, SATO, most=2, but=["case-mfg"])) == ["guide", "japanese"]


@given(
    st.lists(st.sampled_from(PIECES), unique_by=lambda piece: piece.id),
    st.sampled_from(["ja", "en", "fr"]),
    st.sampled_from(["awareness", "interest"]),
    st.frozensets(st.sampled_from([piece.id for piece in PIECES])),
)
def test_whoever_is_sent_the_next_piece_again_and_again_gets_each_that_suits_once(
    pieces: list[Piece], language: str, stage: str, had: frozenset[str]
) -> None:
    sent: list[str] = []
    while (piece := next_piece(pieces, Reader(language, stage, had=had | set(sent)))) is not None:
        sent.append(piece.id)
    assert len(sent) == len(set(sent))
    assert set(sent) == set(ids(suiting(pieces, Reader(language, stage, had=had))))


def test_the_shipped_catalogue_is_well() -> None:
    beside = load_beside(ROOT / "scenarios")
    assert [str(problem) for problem in beside.problems] == []
    pieces = load_content(ROOT / "scenarios", beside.known)
    assert pieces is not None
    assert all(set(piece.links) == {"ja", "en"} for piece in pieces.values())


def test_every_slip_in_a_catalogue_is_told_at_once_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "content.py").write_text(
        "from mebae.content_language import *\n"
        'pieces = [piece("Case", title="", link="example.com", stage="interst", topic="automatio"), piece("Case", title="x", link="https://x.example")]\n'
    )
    with pytest.raises(ScenarioError) as refused:
        load_content(tmp_path, Vocabulary(topics=("automation",)))
    told = str(refused.value)
    for words in (
        "lower-case words", "write the whole address", "the title is empty", "did you mean 'interest'?",
        "did you mean 'automation'?", "two pieces are called 'Case'",
    ):  # fmt: skip
        assert words in told
