"""Tables of a page: columns that sort by a click or a key, and bars with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

from semask.reporting.values import NONE, escaped, percent


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        html: What is in it, safe.
        value: What it is sorted by; None sorts last.
        left: Whether it is text, at the left.
    """

    html: str
    value: float | str | None = None
    left: bool = False


def words(text: object, *, longest: int = 80) -> Cell:
    """A cell with text from outside."""
    return Cell(escaped(text, longest=longest), str(text)[:longest].lower(), left=True)


def count(value: float | None) -> Cell:
    """A cell with a count."""
    return Cell(NONE if value is None else f"{value:,.0f}", value)


def score(value: float | None, *, digits: int = 1) -> Cell:
    """A cell with a share in percent."""
    return Cell(percent(value, digits=digits), value)


def bar(
    value: float | None, low: float | None = None, high: float | None = None, *, digits: int = 1, room: bool = False
) -> Cell:
    """A cell with a share in percent, a bar, and the ends of its interval.

    Args:
        value: The share.
        low: Lower end.
        high: Upper end.
        digits: Digits after the point.
        room: Whether an interval that is missing keeps its place, so that numbers stand below each other.
    """
    if value is None:
        return Cell(NONE, None)
    between = '<span class="between"></span>' if room else ""
    whisker = ""
    if low is not None and high is not None and 0 <= low <= high <= 1:
        between = f'<span class="between">{percent(low)} to {percent(high)}</span>'
        whisker = f'<i class="whisker" style="left:{100 * low:.2f}%;width:{100 * (high - low):.2f}%"></i>'
    shown = max(0.0, min(1.0, value))
    drawn = f'<span class="bar" aria-hidden="true"><i style="width:{100 * shown:.2f}%"></i>{whisker}</span>'
    return Cell(f'<span class="barred">{drawn}<span>{percent(value, digits=digits)}</span>{between}</span>', value)


def table(
    caption: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    *,
    feet: Sequence[Sequence[Cell]] = (),
    sorts: bool = True,
) -> str:
    """A table whose first column names the rows; nothing without rows.

    Args:
        caption: What it holds.
        heads: Names of the columns.
        rows: Cells of each row.
        feet: Rows that stay at the end: means.
        sorts: Whether it can be sorted, if it has more than one row.
    """
    if not rows and not feet:
        return ""
    sorts = sorts and len(rows) > 1
    of_heads = "".join(
        f'<th scope="col"{" aria-sort=none" if sorts else ""}>'
        + (f'<button type="button">{escaped(head)}</button></th>' if sorts else f"{escaped(head)}</th>")
        for head in heads
    )
    body = "".join(_row(row) for row in rows)
    foot = f"<tfoot>{''.join(_row(row) for row in feet)}</tfoot>" if feet else ""
    name = escaped(caption)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{name}"><table{" data-sorts" if sorts else ""}>'
        f"<caption>{name}</caption><thead><tr>{of_heads}</tr></thead><tbody>{body}</tbody>{foot}</table></div>"
    )


def _row(cells: Sequence[Cell]) -> str:
    first, *rest = cells
    return (
        f'<tr><th scope="row"{_value(first)}>{first.html}</th>'
        + "".join(f"<td{_value(cell)}{' class=left' if cell.left else ''}>{cell.html}</td>" for cell in rest)
        + "</tr>"
    )


def _value(cell: Cell) -> str:
    return "" if cell.value is None else f' data-v="{escaped(cell.value)}"'


def definitions(pairs: Sequence[tuple[str, object]]) -> str:
    """Names and values that stand next to each other; a value of None is left out."""
    rows = "".join(
        f"<div><dt>{escaped(name)}</dt><dd>{escaped(value)}</dd></div>" for name, value in pairs if value is not None
    )
    return f"<dl>{rows}</dl>" if rows else ""
