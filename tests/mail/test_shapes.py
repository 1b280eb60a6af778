"""A hundred thousand leads get the mail that each would have got alone: the fast way writes the same bytes, or steps aside."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mebae.mail import rendering
from mebae.mail.publishing import block_files
from mebae.mail.rendering import BrokenMail, Rendered, Shared, Tracking, parse_mail, render
from mebae.mail.shared import blocks_of
from tests.mail.test_rendering import LAYOUT, ROOT, mail, values

OURS = {
    "unsubscribe_url": "https://m.example.jp/u/a-B_1",
    "preferences_url": "https://m.example.jp/p/a",
    "view_url": None,
    "piece": {"id": "case-mfg", "title": "導入事例", "link": "https://example.com/ja/cases/mfg", "kind": "case", "summary": "40時間の削減"},
    "related": [],
}
LAYOUTS = [
    (ROOT / "layouts" / "default.html").read_text(encoding="utf-8"),
    LAYOUT,
    '<html lang="{{ language }}"><head><style>[title="a"] { color: red } .a { color: blue } .b p { margin: 0 }</style>'
    "<title>{{ subject }} {{ lead.name | default_to('x') }}</title></head>"
    '<body class="{{ lead.name | default_to(\'a\') }}"><!-- {{ lead.name | default_to("a") }} -->'
    "<a href=\"{{ entry.url | default_to('x') }}\">{{ entry.url | default_to('x') }}</a>"
    "<a title=\"{{ lead.company | default_to('y') }}\" href='https://example.com/?c={{ lead.company | default_to('y') }}'>c</a>"
    "<a href=\"mailto:{{ lead.company | default_to('y') }}\">m</a><a href={{ lead.name | default_to('a') }}>u</a>"
    "<img src=\"https://example.com/{{ lead.company | default_to('y') }}.png\" alt=\"{{ lead.name | default_to('z') }}\">"
    "<pre>{{ lead.name | default_to('a') }}</pre><table><tr><td>{{ lead.name | default_to('a') }}</td><td>b</td></tr></table>"
    "<table role=presentation><tr><td>{{ lead.company | default_to('a') }} </td></tr></table>{{ body }}</body></html>",
    "<style>img[alt='a'] { color: red } a[href^='https'] { color: blue }</style>"
    "<img alt=\"{{ lead.name | default_to('a') }}\" src=x><a href=\"{{ entry.url | default_to('x') }}\">x</a>{{ body }}",
    "<body>{{ body | upper }}</body>",
    "<body>{{ block('sign', of=lead.name) }}{{ body }}{{ footer }}{{ footer | length }}</body>",
    "<body>{% if lead.name %}{{ block('sign', of=lead.name) }}{% endif %}{{ body }}{{ footer }}</body>",
]
"""Those of this house, and what an author could come to write."""
BODIES = [
    "{{ lead.name | sama }}\n\nх *{{ lead.name }}* **{{ lead.company }}** _{{ lead.name }}_ ~~{{ lead.company }}~~",
    "{{ lead.name }}**{{ lead.company }}**{{ lead.name }}は*強*{{ lead.company }}_x_{{ lead.name }}",
    "{{ lead.name }}\n{{ lead.company }}\nx\n{{ lead.name }}\n日本\n{{ lead.company }}\n> {{ lead.name }}\n> {{ lead.company }}",
    "{{ lead.name }}. x\n\n1{{ lead.name }}) x\n\n{{ lead.company }}{{ lead.name }}. y\n\n- {{ lead.name }}. z",
    '[{{ lead.name }}]({{ entry.url }}) [b]({{ entry.url }} "{{ lead.name }}") ![{{ lead.name }}]({{ entry.url }})',
    "[a](https://example.com/a?c={{ lead.company }}&d={{ lead.name | urlencode }}) [b](https://{{ lead.company }}.example/x)",
    "[{{ entry.url }}](https://example.com/a) **[{{ lead.name }}](https://example.com/{{ lead.name }})**",
    "<https://example.com/{{ lead.company }}> <{{ lead.name }}> &{{ lead.name }}; \\{{ lead.name }} &#{{ lead.name }};",
    "`{{ lead.name }}` a ` b {{ lead.company }}\n\n    {{ lead.name }}\n\n```\n{{ lead.company }}\n```",
    "a ` b {{ lead.name }} c\n\nd {{ lead.company }} ` e {{ lead.name }}",
    "| {{ lead.name }} | b |\n| --- | --- |\n| {{ lead.company }} | d |\n\n{{ lead.name }}\n---|",
    "[x]: https://example.com/ref\n\n[{{ lead.name }}] [x]",
    "{% set s %}**{{ lead.name }}**{% endset %}{{ s }}{% if s == 'a' %}!{% endif %}",
    "{% set s %}**{{ lead.name }}**{% endset %}{{ s }} {% macro m(n) %}_{{ n }}_{% endmacro %}{{ m(lead.company) }}",
    "{% for tag in lead.tags %}{{ loop.index }}. {{ tag }}\n{% endfor %}",
    "# {{ lead.name }} #\n\n{{ lead.company }}\n===\n\n* {{ lead.name }}\n* * {{ lead.company }}",
    "{{ '*a* <b>' }} {{ 'a' ~ lead.name }} {{ lead.name | upper }} {{ lead.name | length }} {{ lead.name[:2] }}",
    "[停止]({{ unsubscribe_url }}) [a](<{{ entry.url }}>) [b]({{ lead.name }}:{{ entry.url }}) x{{ lead.name }}[y](z)",
    "[{{ lead.name }}](https://example.com/%{{ lead.company }}) ![a](/x{{ lead.name }}) [c](/{{ lead.company }}#{{ lead.name }})",
    "{{ lead.name }}\\\n{{ lead.company }}  \n{{ lead.name }} \n {{ lead.company }}\n"
    "[{{ lead.name }}](x)\n*{{ lead.name }}*\n![{{ lead.company }}](y)",
]
PAGES = [
    "<!doctype html><html><body><p title='{{ lead.company }}'>{{ lead.name | sama }}</p>{{ block('sign', of=lead.company) }}"
    "<a href=\"{{ entry.url | default_to('#') }}\">{{ lead.company }}</a>{{ footer }}</body></html>",
    "<mjml><mj-head><mj-title>{{ subject }}</mj-title><mj-preview>{{ preheader }}</mj-preview></mj-head><mj-body><mj-section>"
    "<mj-column><mj-text>{{ lead.name | sama }} {{ block('sign', of=lead.company) }}</mj-text>"
    "<mj-button href=\"https://example.com/{{ lead.company | urlencode }}\">{{ lead.company }}</mj-button>"
    "<mj-image src=\"https://example.com/a.png\" alt=\"{{ lead.name | default_to('x') }}\"/><mj-table><tr><td>{{ lead.name }}</td>"
    "</tr></mj-table><mj-text>{{ footer }}</mj-text></mj-column></mj-section></mj-body></mjml>",
    "{{ block('sign', of=lead.name) }}\n\n{% for tag in lead.tags %}{{ block('sign', of=tag) }}{% endfor %}",
    "{{ block('sign', of=lead.name) | upper }} {{ block('sign', of=lead.company) ~ 'x' }}",
]
SHARED = Shared({}, blocks_of(block_files(ROOT / "blocks")) | {
    "sign": {"": "**{{ given.of | default_to('名') }}**\n{{ lead.name }}\n[a](https://example.com/{{ given.of }})"},
})  # fmt: skip
WORDS = st.one_of(
    st.sampled_from([
        "山田　太郎", "山田 太郎", "a", "1", "2026", "a*b*", "*a", "a*", "_", "**", "`", "a`b", "a|b", "|", "\\",
        "a\\", "&amp;", "amp", "&", "<b>", "</title>", "]]", "](x)", "[x]", "x", "!", "a!", "「引用」", "株式会社Ａ＆Ｂ",
        "㈱髙橋", "한국", "👩‍👩‍👧", "🙂", "שלום", "\u200fمرحبا", "\u00a0", "a\u00a0b", "  a  b ", "\t", "a\nb",
        "a\r\n\r\nb", "\x00", "é", "e\u0301", "\u0301a", "\ue000", "\uf000", "\ue000\ue100\ue000", "\ud800",
        "\u2028", "“x”", "…", "―", "。", "https://example.com/a", "https://example.com/a?b=c&copy=d#e",
        "http://日本.example/白書", "https://example.com/a b", "https://example.com/(x)",
        "https://example.com/%E3%81%82%zz", "https://m.example.jp/u/a-B_1", "javascript:alert(1)",
        "mailto:a@b.example", "HTTPS://EXAMPLE.com/A", "%41", "%4", "/x/../y", "untracked", "ja", "b c=d",
        "x\" onclick=\"y", "'",
    ]),
    st.text(max_size=12),
    st.text(alphabet="ab1.*_~`|\\[]()<>&;:/%#!\"' -+=山「」。　\n", max_size=12),
    st.none(),
)  # fmt: skip


def both(source: str, layout: str, filled: dict[str, Any]) -> tuple[Any, Any]:
    """What the fast way and the plain way say: a mail, or why there is none."""
    said: list[Any] = []
    for plainly in (False, True):
        seen: dict[str, None] = {}

        def link(target: str, seen: dict[str, None] = seen) -> str:
            seen[target] = None
            return target if "copy" in target else f"https://t.example.jp/{len(target)}?a&b={sum(map(ord, target))}"

        tracking = Tracking(link, pixel="https://t.example.jp/o?a&b", trap="https://t.example.jp/x")
        try:
            said.append(
                (render(parse_mail(source, "m"), layout, filled, tracking=tracking, plainly=plainly), list(seen))
            )
        except BrokenMail as broken:
            said.append(broken.detail)
    return said[0], said[1]


@settings(max_examples=400, deadline=None)
@given(
    body=st.sampled_from(BODIES + PAGES), layout=st.sampled_from(LAYOUTS), name=WORDS, company=WORDS, url=WORDS,
    tags=st.lists(WORDS.filter(bool), max_size=3), language=st.sampled_from(["ja", "en"]),
)  # fmt: skip
@example(body=BODIES[3], layout=LAYOUT, name="1", company="2", url=None, tags=[], language="ja")
@example(
    body=BODIES[4],
    layout=LAYOUTS[2],
    name="untracked",
    company="a",
    url="https://example.com/a",
    tags=[],
    language="ja",
)
@example(body=BODIES[9], layout=LAYOUT, name="x`y", company="a", url=None, tags=[], language="ja")
@example(body=BODIES[0], layout=LAYOUTS[3], name="a", company="a", url="https://example.com/a", tags=[], language="ja")
@example(body="[a](https://example.com/%{{ lead.company }})", layout=LAYOUT, name="a", company="2026", url=None, tags=[], language="ja")
@example(body=BODIES[6], layout=LAYOUT, name="a", company="a", url="https://example.com/a", tags=[], language="ja")
def test_the_fast_way_and_the_plain_way_write_the_same_bytes(
    body: str, layout: str, name: Any, company: Any, url: Any, tags: list[Any], language: str
) -> None:
    source = mail(
        body, "subject: \"件名 {{ lead.name | default_to('x') }}\"\npreheader: \"{{ lead.company | default_to('y') }}\""
    )
    filled = values(language, {"url": url}, name=name, company=company, tags=tags) | OURS
    fast, plain = both(source, layout, filled)
    assert fast == plain


SHIPPED = sorted(path for path in ROOT.rglob("*.*.md") if path.parent.name != "blocks")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}-{path.name}")
@settings(max_examples=8, deadline=None)
@given(name=WORDS, company=WORDS, title=WORDS)
def test_shipped_mails_are_the_same_bytes_either_way(path: Path, name: Any, company: Any, title: Any) -> None:
    filled = values(path.name.split(".")[1], {"title": title}, name=name, company=company) | OURS
    fast, plain = both(path.read_text(encoding="utf-8"), LAYOUTS[0], filled)
    assert fast == plain


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_shipped_mails_take_the_fast_way(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def plain_way(*_: Any) -> str:
        raise AssertionError("the plain way was taken")

    monkeypatch.setattr(rendering, "inline_css", plain_way)
    source = parse_mail(path.read_text(encoding="utf-8"), path.name)
    for name, company in (("山田 太郎", "株式会社芽生え"), ("Ann Lee", "A&B (Tokyo) Ltd."), (None, None)):
        language = path.name.split(".")[1]
        filled = values(language, {"title": "入門"}, name=name, company=company) | OURS
        got: Rendered = render(source, LAYOUTS[0], filled, blocks=SHARED.blocks_for(language))
        assert name is None or name in got.text


def test_eight_threads_share_shapes_and_mix_no_values() -> None:
    source = parse_mail(mail("{{ lead.name }}\n\n- [{{ lead.company }}](https://example.com/{{ lead.company }})"), "m")

    def one(n: int) -> str:
        link = Tracking(lambda target: f"{target}?n={n}")
        return render(source, LAYOUT, values(name=f"name{n}", company=f"company{n}"), tracking=link).text

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(400))) == [
            f"name{n}\n\n  * company{n} <https://example.com/company{n}?n={n}>\n" for n in range(400)
        ]
