"""Curves as SVG, drawn by matplotlib: no script, colors of the page, and a title and a description to be read aloud."""

import io
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from semask.extras import require
from semask.reporting.values import escaped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = 6
"""Colors of lines: the variables --c0 to --c5 of the page; further lines have other dashes."""
DASHES: tuple[tuple[str, str], ...] = (("-", ""), ("--", "6 3"), (":", "2 3"), ("-.", "7 3 2 3"))
"""Dashes of lines as matplotlib and as SVG call them."""
MOST_POINTS = 600
"""Points of a line: more are not seen."""
SIZE = (4.9, 2.9)
"""Width and height in units of 72 points."""
_TEXT, _GRID = "#00ff01", "#00ff02"
_SERIES = "#0000f{}"
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "semask",
    "text.parse_math": False,
    "axes.unicode_minus": False,
    "text.color": _TEXT,
    "axes.labelcolor": _TEXT,
    "xtick.color": _TEXT,
    "ytick.color": _TEXT,
    "axes.edgecolor": _GRID,
    "grid.color": _GRID,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "font.size": 11,
    "lines.linewidth": 1.8,
    "path.simplify": True,
}


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        name: Its name, for the legend.
        x: Values to the right.
        y: Values upward.
        color: Number of its color.
        dash: Number of its dashes.
        markers: Whether each point is marked.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: int = 0
    dash: int = 0
    markers: bool = False


def require_matplotlib() -> None:
    """Refuse to go on without matplotlib.

    Raises:
        ValueError: If it is not installed.
    """
    require("matplotlib")


def line_chart(
    title: str, said: str, lines: Sequence[Line], *, x: str, y: str, log: bool = False, key: str, diagonal: bool = False
) -> str:
    """Draw lines, with a legend in HTML below; nothing if no line has a point.

    Args:
        title: Title, for those who see it and those who do not.
        said: What the chart shows, in words.
        lines: The lines.
        x: Name of the axis to the right.
        y: Name of the axis upward.
        log: Whether the axis upward is logarithmic.
        key: Name of the chart in the page: letters only.
        diagonal: Whether both axes go from 0 to 1, with a line of equal values.
    """
    drawn = [line for line in lines if line.x]
    if not drawn:
        return ""

    def draw(axes: "Axes") -> None:
        from matplotlib.ticker import LogLocator, MaxNLocator

        if diagonal:
            axes.plot([0, 1], [0, 1], color=_GRID, linewidth=1)
            axes.set(xlim=(0, 1), ylim=(0, 1))
        else:  # steps: whole numbers, and room for a million of them
            axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        for line in drawn:
            xs, ys = thinned(line.x, line.y)
            marker = "o" if line.markers or len(xs) == 1 else None
            color = _SERIES.format(line.color % COLORS)
            axes.plot(xs, ys, color=color, linestyle=DASHES[line.dash % len(DASHES)][0], marker=marker, markersize=4)
        axes.set(xlabel=x, ylabel=y)
        if log and all(value > 0 for line in drawn for value in line.y):
            axes.set_yscale("log")
            for which in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
                which(lambda value, _: f"{value:g}")  # matplotlib writes powers in its own markup
            axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))

    svg = drawing(draw, title=title, said=said, key=key)
    return f"<figure><figcaption>{escaped(title)}</figcaption>{svg}{legend(drawn) if len(drawn) > 1 else ''}</figure>"


def legend(lines: Sequence[Line]) -> str:
    """Names of lines with their colors and dashes."""
    swatches = "".join(
        f'<li><svg class="swatch" viewBox="0 0 28 8" aria-hidden="true"><line x1="0" y1="4" x2="28" y2="4" '
        f'stroke="var(--c{line.color % COLORS})" stroke-width="2.5" '
        f'stroke-dasharray="{DASHES[line.dash % len(DASHES)][1] or "none"}"/></svg>'
        f"{escaped(line.name, longest=80)}</li>"
        for line in lines
    )
    return f'<ul class="legend">{swatches}</ul>'


def thinned(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """Replace many points by the means of as many as lie next to each other.

    >>> thinned(range(3), [1, 2, 3])
    ([0, 1, 2], [1, 2, 3])
    """
    together = -(-len(x) // MOST_POINTS)
    if together <= 1:
        return list(x), list(y)
    groups = [slice(start, start + together) for start in range(0, len(x), together)]
    return [sum(x[g]) / len(x[g]) for g in groups], [sum(y[g]) / len(y[g]) for g in groups]


def drawing(draw: Callable[["Axes"], None], *, title: str, said: str, key: str) -> str:
    """Let matplotlib draw, and make a part of a page of what it drew."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # not the style of whoever calls
        matplotlib.rcParams.update(_SETTINGS)
        figure = Figure(figsize=SIZE, layout="constrained")
        draw(figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return inlined(buffer.getvalue(), title=title, said=said, key=key)


def inlined(svg: str, *, title: str, said: str, key: str) -> str:
    """Make the SVG of matplotlib a part of a page: names of its own, colors of the page, no address."""
    body = svg[svg.index("<svg") :]
    body = re.sub(
        r"<metadata>.*?</metadata>|<!--.*?-->|<defs>\s*<style.*?</style>\s*</defs>", "", body, flags=re.DOTALL
    )
    used = set(re.findall(r"#([\w-]+)[\")]", body))
    numbers = {name: f"{key}{number}" for name, number in zip(sorted(used), itertools.count(), strict=False)}
    body = re.sub(r' id="([^"]+)"', lambda x: f' id="{numbers[x[1]]}"' if x[1] in numbers else "", body)
    body = re.sub(r'(xlink:href="|url\()#([\w-]+)', lambda x: f"{x[1]}#{numbers.get(x[2], x[2])}", body)
    body = body.replace("xlink:href=", "href=")
    body = re.sub(r"#0000f(\d)", r"var(--c\1)", body).replace(_TEXT, "var(--text)").replace(_GRID, "var(--line)")
    body = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", body)
    view = re.search(r'viewBox="([^"]*)"', body)
    head = f'<svg viewBox="{view[1] if view else ""}" role="img" aria-labelledby="{key}t {key}d">'
    named = f'<title id="{key}t">{escaped(title)}</title><desc id="{key}d">{escaped(said, longest=1000)}</desc>'
    return re.sub(r"\n\s*", "\n", head + named + body[body.index(">") + 1 :].rstrip())
