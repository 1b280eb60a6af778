"""Who wins an A/B test, and what a mail does against no mail. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

TOO_FEW = 5
"""With fewer clicks (or opens) than this over all variants together, chance would decide: the first variant wins."""


class Tried(NamedTuple):
    """What became of one variant's mails until the decision. Opens and clicks are those of persons, once a mail."""

    sent: int = 0
    delivered: int = 0
    """Sent and not bounced."""
    opens: int = 0
    clicks: int = 0


class Decision(NamedTuple):
    winner: str
    why: str
    """`most` (of what counts), `tie`, or `too-few`."""


def decide(tried: Mapping[str, Tried], by: str) -> Decision:
    """The variant with the most clicks (or opens) for each mail delivered; at a tie, the one that stands first.

    Args:
        tried: by variant, in their order; there is at least one.
        by: `clicks` or `opens`.

    >>> decide({"a": Tried(100, 98, clicks=4), "b": Tried(100, 99, clicks=9)}, "clicks")
    Decision(winner='b', why='most')
    >>> decide({"a": Tried(10, 10, clicks=1), "b": Tried(10, 10, clicks=3)}, "clicks")
    Decision(winner='a', why='too-few')
    """
    first = next(iter(tried))
    counted = {id: (getattr(one, by), max(one.delivered, 1)) for id, one in tried.items()}
    if sum(count for count, _ in counted.values()) < TOO_FEW:
        return Decision(first, "too-few")
    best = first
    for id in counted:
        if _more(counted[id], counted[best]):
            best = id
    as_good = [id for id in counted if not _more(counted[best], counted[id])]
    return Decision(as_good[0], "tie" if len(as_good) > 1 else "most")


def _more(one: tuple[int, int], two: tuple[int, int]) -> bool:
    """Whether one rate is higher, in whole numbers: no rounding makes or breaks a tie."""
    return one[0] * two[1] > two[0] * one[1]


class Difference(NamedTuple):
    """Between two shares, in points: 0.02 is two percent more."""

    points: float
    low: float
    high: float
    """Between these it lies with 95 percent certainty. With 0 between them, chance alone may be it."""


def difference(one: tuple[int, int], two: tuple[int, int]) -> Difference | None:
    """How much larger the first share (so many of so many) is; None where one of them is of nobody.

    The interval is Newcombe's hybrid of Wilson's (Statistics in Medicine 17, 1998, method 10): right for small numbers too.

    >>> [round(number, 3) for number in difference((56, 70), (48, 80))]
    [0.2, 0.052, 0.334]
    """
    if not one[1] or not two[1]:
        return None
    p, q = one[0] / one[1], two[0] / two[1]
    (low_p, high_p), (low_q, high_q) = _wilson(*one), _wilson(*two)
    low = p - q - math.hypot(p - low_p, high_q - q)
    high = p - q + math.hypot(high_p - p, q - low_q)
    return Difference(p - q, low, high)


def _wilson(count: int, of: int) -> tuple[float, float]:
    z = 1.959964  # 95 percent
    middle, wide = (count + z * z / 2) / (of + z * z), z / (of + z * z)
    spread = wide * math.sqrt(count * (of - count) / of + z * z / 4)
    return max(0.0, middle - spread), min(1.0, middle + spread)
