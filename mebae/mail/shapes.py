"""The fast way to lay out a mail: what leads share is done once, and each lead's values are put in.

`finish` gives the same bytes as the plain way (`mebae.mail.rendering`), or raises `Unsafe`; a property test holds them equal.
A slot in a place where its value could change what is around it (a list's number, a class that styles look at, a cell of a
table whose columns are aligned in the text part) is filled in the plain way, and the shape with it is looked up instead.
"""

from __future__ import annotations

from mebae.mail.filling import Filling
from mebae.mail.links import Links
from mebae.mail.skeletons import Skeleton, lay_out
from mebae.mail.slots import Recorder, Unsafe, with_literals

_VARIANTS = 32
"""In how many forms a shape is kept whose slots cannot all stay open. One with more is not worth keeping."""
_LIMIT = 100_000
"""Characters of a page that is laid out this way."""


def finish(recorder: Recorder, page: str, links: Links, *, mjml: bool = False) -> tuple[str, str, Skeleton]:
    """HTML and text of a page that was filled in with a recorder, and its shape. Raises `Unsafe`."""
    pieces = tuple(recorder.pieces)
    if len(page) + sum(map(len, pieces)) > _LIMIT:
        raise Unsafe("a long page")
    skeleton = first = lay_out(page, pieces, mjml)
    for _ in range(5):
        if not skeleton.literals:
            return *_filled(skeleton, recorder, links), skeleton
        page, *rest = (
            with_literals(shape, skeleton.literals, recorder.values) if at in skeleton.changing else shape
            for at, shape in enumerate((page, *pieces))
        )
        pieces = tuple(rest)
        first.variants.add(hash((page, pieces)))
        if len(first.variants) > _VARIANTS:
            break
        skeleton = lay_out(page, pieces, mjml)
    raise Unsafe("values that change what is around them")


def _filled(skeleton: Skeleton, recorder: Recorder, links: Links) -> tuple[str, str]:
    filling = Filling(recorder.values, skeleton.addresses, links)
    page, text = list(skeleton.html), list(skeleton.text)
    for at, value in skeleton.in_html:
        page[at] = value(filling)
    for at, value in skeleton.in_text:
        text[at] = value(filling)
    return "".join(page), "".join(text)
