"""The golden numbers of `src/archive/hypervolume.rs`, by another method than the crate's.

The crate sweeps (two objectives) and slices by exclusive volumes (three). Here both come from a sum over the cells of
the grid that the points' own coordinates span, in exact rational arithmetic over the binary values of the floats
(`fractions.Fraction`), so that only the last rounding is inexact. Needs Python 3 alone and less than a minute.

    python3 tests/reference/hypervolume.py
"""

import math
from fractions import Fraction


def zdt1():
    """The Pareto front of ZDT1 with 32 levels a variable: g = 1."""
    xs = [level / 31.0 for level in range(32)]
    return [(x, 1.0 - math.sqrt(x)) for x in xs], (1.1, 10.1)


def dtlz2():
    """The front of DTLZ2, three objectives, 64 levels a variable: ten distance variables at 31/63, nearest to 0.5."""
    s = 1.0 + 10 * (31.0 / 63.0 - 0.5) ** 2
    points = []
    for i in range(64):
        for j in range(64):
            a, b = i / 63.0 * math.pi / 2, j / 63.0 * math.pi / 2
            points.append((s * math.cos(a) * math.cos(b), s * math.cos(a) * math.sin(b), s * math.sin(a)))
    return points, (1.5, 1.5, 1.5)


def area(points, ref):
    """The union of the boxes [point, ref], as columns between neighbouring first coordinates."""
    xs = sorted({p[0] for p in points} | {ref[0]})
    total = Fraction(0)
    for left, right in zip(xs, xs[1:]):
        lowest = min((p[1] for p in points if p[0] <= left), default=ref[1])
        total += (Fraction(right) - Fraction(left)) * (Fraction(ref[1]) - Fraction(lowest))
    return total


def volume(points, ref):
    """The same, as slabs between neighbouring last coordinates."""
    zs = sorted({p[2] for p in points} | {ref[2]})
    total = Fraction(0)
    for low, high in zip(zs, zs[1:]):
        total += (Fraction(high) - Fraction(low)) * area([p[:2] for p in points if p[2] <= low], ref[:2])
    return total


if __name__ == "__main__":
    print("zdt1 ", repr(float(area(*zdt1()))))
    print("dtlz2", repr(float(volume(*dtlz2()))))
