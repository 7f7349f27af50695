"""The ways people write each digit, and the splines on which the pen follows them.

A style is two forms of one movement of the pen; what is drawn lies somewhere between them. A form
is a row of points `x,y` in hundredths of the digit's height, x to the right and y down, in the
order in which the pen passes them. `!` after a point makes it a corner, where the pen changes its
direction at once; a lone `/` lifts the pen. Both forms have the same points, corners and lifts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

NUM_CLASSES = 10
NUM_POINTS = 112  # along all strokes of a digit: less than a pixel apart

# Each style is three lines: its digit, its share among the digit's styles, and what it is; then
# its two forms.
STYLES = """
0 6 A ring, closed or not quite, the end passing the start.
  44,4 22,4 5,24 0,52 10,84 32,100 54,88 66,58 62,26 46,6 30,4
  34,2 16,12 4,38 4,66 16,92 32,99 48,90 58,62 56,32 48,12 40,2
0 2 Begun at the right, the end coming back over the top with a hook inwards or outwards.
  56,14 38,0 14,12 2,42 8,80 30,100 56,84 66,48 58,18 36,8 24,14
  50,4 26,4 8,26 2,56 12,88 34,100 58,82 68,50 66,22 54,6 62,0
0 1 Clockwise, begun at the left.
  14,20 34,0 58,14 66,50 54,86 30,100 8,84 0,52 6,28 22,8
  24,6 44,2 64,24 64,60 48,92 26,98 6,78 2,48 10,20 30,0
0 1.5 Begun inside the ring, or outside it with a spur.
  50,30 40,10 20,10 2,36 4,74 26,98 52,90 68,60 62,24 40,2 18,8
  20,0 14,8 6,30 2,56 14,88 36,100 58,84 66,50 54,18 32,12 8,22
0 0.15 Crossed by a slash.
  44,4 22,4 5,24 0,52 10,84 32,100 54,88 66,58 62,26 46,6 30,4 / 60,10 8,88
  34,2 16,12 4,38 4,66 16,92 32,99 48,90 58,62 56,32 48,12 40,2 / 66,0 0,98
1 9 A straight or slightly curved line.
  30,0 30,33 30,66 30,100
  34,0 31,33 29,66 26,100
1 1.2 With a flag.
  4,30 30,0! 30,50 30,100
  20,14 30,0! 30,50 28,100
1 0.8 With a flag and a base.
  4,26 30,0! 30,50 30,100 / 0,100 60,100
  18,16 34,0! 32,50 30,96 / 14,98 50,98
2 4 A corner at the bottom left.
  4,24 10,8 30,0 52,8 56,28 42,56 22,78 2,97! 32,97 68,96
  10,18 22,4 40,0 54,12 50,36 36,62 16,86 -4,98! 34,90 80,98
2 4 A loop at the bottom left.
  6,24 16,4 38,0 54,16 52,44 36,76 12,98 -4,88 8,68 32,74 52,96 80,92
  10,14 26,2 46,8 50,32 38,62 22,88 6,98 -2,92 8,84 28,88 50,98 88,86
2 4 A big bow that stays on the right, then a round loop as large.
  8,22 20,4 42,0 58,16 58,44 44,76 20,98 0,94 2,74 20,66 40,78 58,96 78,98
  2,16 20,2 44,4 54,24 52,54 40,82 22,96 8,96 4,84 18,74 36,82 52,94 66,90
2 1.5 A small head, a long neck, a tall narrow loop: somewhat like a mirrored 6.
  18,14 26,2 42,4 48,20 46,44 38,76 22,98 6,94 4,76 20,64 36,78 48,92 64,92
  22,8 34,0 44,10 44,28 40,52 32,80 18,99 4,90 10,74 26,72 38,82 48,86 58,84
2 1 Tall, with a short base.
  14,20 20,6 34,0 46,12 46,32 38,60 20,96! 34,96 50,94
  8,16 18,4 34,4 40,20 38,42 30,70 14,98! 40,92 74,88
2 1 A small body, a long tail.
  8,28 18,10 36,4 46,20 34,48 16,78 0,94! 48,90 104,78
  4,22 14,8 32,2 42,16 36,44 18,80 4,98! 36,98 84,96
2 1 Angular, like a Z.
  4,8 30,2 58,6! 32,50 4,97! 36,97 70,96
  10,18 26,2 54,8! 34,54 14,94! 30,93 48,98
2 1 A small hook to begin, a round bottom, a wavy end.
  10,34 2,18 20,2 48,2 62,22 50,52 26,82 6,96 20,92 44,98 74,88
  12,28 8,14 26,0 46,6 54,26 44,56 26,82 14,98 28,98 48,96 62,90
3 5 Round, with a deep corner between the two arcs.
  6,14 24,0 48,4 56,22 42,40 20,48! 48,50 62,70 50,94 26,100 2,90
  10,8 28,0 46,8 46,24 34,38 22,44! 44,52 54,70 44,90 22,99 4,98
3 2 A shallow corner.
  8,10 28,0 52,2 48,14 34,30 22,40! 52,46 64,70 52,94 26,100 -2,90
  8,20 20,2 42,0 52,20 46,38 34,46! 46,54 52,74 40,94 18,100 0,84
3 1.2 A flat top.
  4,4 30,3 58,2! 42,20 26,40! 52,46 62,66 52,92 26,100 2,90
  8,8 28,4 50,6! 38,24 28,38! 46,46 54,66 46,90 22,99 0,96
3 1.5 A lower arc that runs off to the left without curling.
  2,10 20,2 44,2 54,14 40,32 24,44! 44,46 58,58 54,76 38,90 16,100
  10,4 26,0 42,6 46,20 34,34 24,42! 36,44 46,56 42,74 32,88 22,100
3 1.2 A small loop in the middle.
  6,12 26,0 50,6 54,24 38,42 20,50 20,42 44,46 60,66 50,94 24,100 0,88
  8,6 28,2 44,10 44,28 32,44 22,50 26,44 42,50 52,70 42,92 20,100 4,94
4 4 Open, two strokes: an L, then the stem.
  16,2 8,28 2,54! 30,56 66,52 / 52,4 48,50 44,100
  22,0 14,22 8,46! 32,48 62,44 / 48,18 44,56 40,100
4 4 Open, one stroke: a bowl, then up and down the stem.
  8,4 2,34 18,54 42,46 60,6! 52,50 42,100
  12,2 8,24 16,42 34,42 50,10! 46,54 38,100
4 0.8 Closed, the top a corner.
  44,0 22,30 0,62! 32,63 70,62 / 44,0 43,50 42,100
  50,2 28,26 8,52! 36,54 62,50 / 48,4 44,50 38,100
4 1 A short bar that does not pass the stem.
  14,8 10,26 6,48! 24,50 48,46 / 54,0 48,46 40,100
  6,4 6,24 8,44! 26,46 52,42 / 52,6 52,48 50,100
5 3 Two strokes: the body, then the bar.
  16,4 13,22 10,44! 32,38 54,50 56,72 42,94 20,100 0,92 / 14,4 38,3 64,0
  22,8 18,22 14,40! 32,42 46,54 46,74 34,92 16,99 2,96 / 24,10 44,4 72,2
5 4 One stroke, from the bar's right end.
  62,2 38,3 16,4! 13,22 10,44! 32,38 54,50 56,72 42,94 20,100 0,92
  66,0 44,6 24,8! 20,22 16,38! 34,44 46,58 44,78 32,94 14,100 2,92
5 2 Curved like an S.
  64,2 38,2 20,14 18,32 36,46 52,60 52,80 36,97 16,99 0,90
  58,6 38,4 26,14 24,28 34,42 44,56 42,78 30,94 14,99 4,96
5 2.5 A wide, low belly, its end curling up.
  48,2 36,4 20,6! 12,26 4,52! 34,40 62,54 62,80 40,98 14,98 -2,74
  70,2 46,4 26,6! 22,24 20,40! 40,46 52,64 42,86 22,96 8,98 0,100
6 5 A curved back and a round bowl.
  50,0 26,14 8,44 4,74 18,97 42,96 56,78 46,58 26,60 8,78
  40,0 22,22 10,50 6,76 16,98 34,97 46,84 40,68 26,68 12,84
6 3 A straight back and a small bowl.
  36,0 22,30 10,60 6,84 24,100 46,92 50,72 36,62 18,74 8,90
  24,0 12,30 4,62 6,88 26,99 52,90 64,70 52,58 24,68 4,86
6 1.5 A big bowl that passes the back.
  56,6 36,2 12,24 2,62 16,94 50,98 72,74 58,46 26,50 2,68
  40,0 24,12 8,40 4,72 20,98 54,94 66,70 50,54 18,66 -12,82
6 1 A spiral, the bowl left open.
  56,4 34,4 12,30 4,64 18,96 42,98 54,82 44,66 28,70
  48,0 28,16 10,44 6,76 22,98 44,94 52,78 42,68 34,78
7 5 A corner at the top right.
  2,6 30,5 60,4! 46,36 32,70 24,100
  6,12 28,6 52,4! 44,34 38,68 34,100
7 2 A hook that begins it.
  -2,30 4,10 34,8 70,2! 52,36 34,68 18,100
  10,18 10,8 32,8 54,2! 46,34 36,70 30,100
7 2.5 A round corner.
  0,26 12,6 38,2 58,14 50,42 32,72 16,100
  4,8 24,2 46,2 54,12 48,40 44,72 44,100
7 1.5 A serif that hangs from the left end.
  0,46 0,24 2,6! 32,4 66,4! 58,36 50,68 48,100
  6,16 8,10 10,4! 34,8 56,2! 46,34 34,68 22,100
7 1 A wide roof over a short stem.
  0,26 6,12 44,8 92,2! 72,34 52,66 36,98
  4,14 14,6 44,4 78,4! 74,30 66,60 62,88
7 0.5 A wavy top, a bar, a foot.
  0,16 10,4 34,10 60,2! 48,36 34,72 20,98! 34,98 48,94 / 14,56 40,50 66,50
  4,22 12,8 32,8 54,4! 44,36 34,70 26,96! 32,98 36,96 / 22,46 40,50 56,44
7 1.5 A bar across the stem.
  2,8 30,5 60,4! 46,36 34,70 28,100 / 18,54 40,52 64,48
  8,20 14,6 56,4! 48,32 40,68 36,100 / 26,48 42,46 58,46
8 5 An S from the top right, then up again.
  58,14 38,0 12,6 8,26 28,46 50,66 50,88 32,100 12,92 14,72 34,50 58,30 60,12
  58,8 40,2 20,10 16,28 28,44 42,64 40,86 24,99 8,92 10,74 28,52 52,28 72,2
8 1.5 The same from the top left, mirrored.
  10,10 32,0 58,8 56,28 34,48 12,66 8,88 30,100 52,92 50,70 32,50 8,32 6,14
  16,6 36,0 56,12 50,30 34,46 16,64 16,86 30,99 46,90 44,68 30,48 12,28 10,4
8 1 Two rings.
  34,2 16,8 14,30 34,46 54,32 52,8 30,2 / 34,46 12,58 8,86 32,100 56,86 54,58 32,46
  36,0 22,10 24,30 36,42 48,30 48,10 34,0 / 34,44 18,58 14,84 30,99 46,86 46,60 32,44
8 1.5 A wide head left open, its two ends apart.
  64,22 44,4 16,2 4,20 22,40 42,56 50,78 36,98 14,96 10,78 28,56 54,36 72,10
  50,14 36,4 16,8 10,24 22,40 38,58 44,80 30,99 12,92 14,74 30,54 46,36 60,0
8 1 Begun in the middle.
  34,46 8,30 12,6 38,0 62,12 58,32 30,52 12,70 14,92 34,100 52,88 50,66 30,44
  36,46 20,30 22,10 38,2 52,14 48,30 32,50 16,70 16,90 32,99 46,86 46,66 34,48
9 4 A straight stem from the corner.
  56,12 36,0 12,12 4,34 20,50 42,42 58,8! 54,52 46,100
  50,8 34,2 16,14 12,32 22,44 38,38 50,10! 48,52 44,100
9 3 The bowl runs into the stem in a curve.
  54,16 34,0 10,14 4,38 24,52 48,38 58,10 54,52 40,100
  46,10 30,2 12,18 12,36 26,44 42,30 50,12 44,52 26,100
9 2.5 A bowl left open at the top, the stem begun above it.
  42,14 26,8 8,22 4,40 18,52 44,44 62,2! 56,50 48,100
  48,0 30,4 12,20 10,38 24,46 44,36 58,14! 48,56 34,100
9 0.8 Begun right of the stem, the bowl a hook: somewhat like a 5.
  70,2 50,6 28,10 12,24 14,42 34,46 54,32! 50,60 36,100
  56,4 44,0 24,4 10,22 18,42 38,42 50,26! 54,58 52,100
9 1.5 A bowl closed below the top of the stem.
  54,24 40,8 18,10 4,30 14,48 38,46 54,26 60,0! 54,50 46,100
  44,16 30,8 10,22 6,40 22,50 40,38 48,20 52,8! 52,52 62,98
9 2 A tail that curves to the left.
  56,12 34,0 10,12 6,34 26,48 50,36 60,12 60,50 52,84 32,100 8,92
  52,10 36,2 16,12 14,30 28,42 46,32 54,10 52,50 46,82 34,98 20,96
9 1.5 The stem first bends back: a small bowl, a long leg.
  50,20 40,2 18,6 8,26 24,40 46,28 52,16! 46,56 34,100
  60,6 38,2 14,20 8,42 24,54 48,46 60,24! 54,60 50,100
"""


@dataclass(frozen=True)
class Style:
    """A style's two forms, and the spline that leads through any form between them.

    Attributes:
      forms: float32 [2, 2, num_controls, 1]: form, then x or y; y is -1 at the top, 1 at the foot.
      taps: int64 [4, NUM_POINTS], the control points that each point on the spline is made of.
      weights: float32 [4, NUM_POINTS, 1], how much of each.
    """

    forms: np.ndarray
    taps: np.ndarray
    weights: np.ndarray


def parse_form(text: str) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Reads a form as the table above writes it.

    Args:
      text: points `x,y`, `!` after a corner, `/` where the pen is lifted.

    Returns:
      The points, float64 [num_controls, 2], and the first and last point of each smooth piece:
      a piece ends where the pen is lifted, or at a corner, where the next one begins.
    """
    points: list[list[float]] = []
    pieces, first = [], 0
    for word in text.split():
        if word == "/":
            pieces.append((first, len(points) - 1))
            first = len(points)
            continue
        points.append([float(number) for number in word.rstrip("!").split(",")])
        if word.endswith("!"):
            pieces.append((first, len(points) - 1))
            first = len(points) - 1
    pieces.append((first, len(points) - 1))
    return np.array(points), pieces


def _make_style(form: str, other: str) -> Style:
    """Spreads `NUM_POINTS` points evenly along Catmull-Rom splines through the control points."""
    (points, pieces), (others, _) = parse_form(form), parse_form(other)
    middle = (points + others) / 2
    spans = [(k, first, last) for first, last in pieces for k in range(first, last)]
    steps = np.array([middle[k + 1] - middle[k] for k, _, _ in spans])
    lengths = np.sqrt(steps[:, 0] * steps[:, 0] + steps[:, 1] * steps[:, 1])
    ends = np.concatenate([[0.0], np.cumsum(lengths)])
    taps = np.zeros([4, NUM_POINTS], np.int64)
    weights = np.zeros([4, NUM_POINTS, 1], np.float32)
    for point in range(NUM_POINTS):
        place = ends[-1] * (point / (NUM_POINTS - 1))
        span = min(int(np.searchsorted(ends, place, side="right")) - 1, len(spans) - 1)
        k, first, last = spans[span]
        t = (place - ends[span]) / lengths[span]
        before = t * (-1 + t * (2 - t)) / 2
        here = (2 + t * t * (3 * t - 5)) / 2
        there = t * (1 + t * (4 - 3 * t)) / 2
        behind = t * t * (t - 1) / 2
        if k == first:  # The point before the first is the second one, mirrored at the first.
            before, here, there = 0.0, here + 2 * before, there - before
        if k + 1 == last:
            here, there, behind = here - behind, there + 2 * behind, 0.0
        taps[:, point] = np.clip(np.arange(k - 1, k + 3), first, last)
        weights[:, point, 0] = before, here, there, behind
    forms = np.stack([points.T, others.T])[..., None] / 50 - np.array([[0.6], [1.0]])[..., None]
    return Style(forms=forms.astype(np.float32), taps=taps, weights=weights)


@cache
def load_styles() -> tuple[tuple[Style, ...], np.ndarray, np.ndarray]:
    """Reads the table.

    Returns:
      All styles, those of digit 0 first; the number of each digit's first style, int64 [10]; and
      each digit's cumulative shares, float64 [10, the most styles of any digit], the last ones 1.
    """
    lines = STYLES.strip().splitlines()
    headers = [line.split(maxsplit=2) for line in lines[::3]]
    digits = np.array([int(digit) for digit, _, _ in headers])
    styles = tuple(map(_make_style, lines[1::3], lines[2::3]))
    counts = np.bincount(digits, minlength=NUM_CLASSES)
    firsts = np.cumsum(counts) - counts
    chances = np.ones([NUM_CLASSES, counts.max()])
    for digit, (first, count) in enumerate(zip(firsts, counts, strict=True)):
        shares = np.cumsum([float(share) for _, share, _ in headers[first : first + count]])
        chances[digit, : count - 1] = shares[:-1] / shares[-1]
    return styles, firsts, chances
