"""Charts of the page as SVG, each with its numbers in words for those who do not see it."""

import html
import math
from collections.abc import Mapping, Sequence

from semask.files.text import one_line

BAR = 16


def class_bars(names: Sequence[str], colors: Sequence[str], shares: Mapping[str, Sequence[float]]) -> str:
    """Bars of the share of pixels of each class, on a logarithmic scale, for each split.

    Args:
        names: Names of the classes.
        colors: Color of each, as CSS has it.
        shares: Name of a split -> share of each class, 0 to 1.
    """
    label, width = 190, 420
    rows = []
    y = 0
    for index, name in enumerate(names):
        short = html.escape(one_line(name, longest=26))
        rows.append(f'<text x="{label - 8}" y="{y + 12}" text-anchor="end">{short}</text>')
        for place, (split, values) in enumerate(shares.items()):
            share = values[index]
            length = 0.0 if share <= 0 else width * max(0.01, 1 + math.log10(share) / 5)
            opacity = "" if place == 0 else ' fill-opacity="0.5"'
            rows.append(
                f'<rect x="{label}" y="{y + 2}" width="{length:.1f}" height="{BAR - 5}" fill="{colors[index]}"'
                f'{opacity} class="bar"/><text x="{label + length + 6:.1f}" y="{y + 12}">'
                f"{html.escape(split)} {_percent(share)}</text>"
            )
            y += BAR
        y += 5
    size = f'viewBox="0 0 {label + width + 130} {y + 4}"'
    return f'<svg {size} role="img" aria-label="Share of the pixels of each class">{"".join(rows)}</svg>'


def scatter(sizes: Mapping[tuple[int, int], int]) -> str:
    """Widths and heights of images: a circle for each size, its area by their number."""
    side, margin = 360, 46
    most = max((max(size) for size in sizes), default=1)
    largest = max(sizes.values(), default=1)
    circles = "".join(
        f'<circle cx="{margin + side * width / most:.1f}" cy="{side + 10 - side * height / most:.1f}" '
        f'r="{3 + 9 * math.sqrt(count / largest):.1f}"><title>{width} x {height}: {count}</title></circle>'
        for (height, width), count in sorted(sizes.items())
    )
    said = f"Width and height of the images: {len(sizes)} different sizes, up to {most} pixels"
    axes = f'<path d="M{margin} 10V{side + 10}H{margin + side}" class="axis"/>'
    words = (
        f'<text x="{margin + side}" y="{side + 26}" text-anchor="end">width {most}</text>'
        f'<text x="4" y="16">{most}</text><text x="4" y="32">height</text>'
    )
    view = f'viewBox="0 0 {side + margin + 20} {side + 36}"'
    return f'<svg {view} class="scatter" role="img" aria-label="{said}">{axes}{circles}{words}</svg>'


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %" if share else "-"
