"""Small multiples: a grid of axes with one legend below, limits that keep an outlier from hiding the rest."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from vbench.report.evidence import Evidence
from vbench.report.figures.style import Mark, marks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

__all__ = ["WIDE", "absent", "clipped", "compact", "fit", "grid", "label", "legend", "looks", "title"]

WIDE: Final = 3
"""Panels beside each other at most, where there is room."""

_LEGEND_LINE = 0.19  # inches
_OUTLYING = 60.0  # median distances from the median


def label(text: str, width: int = 44) -> str:
    """A name as figures show it: cut in its middle where it is long (tables have it in full), never hidden by ``_``.

    >>> label("estimator[temperature=0.25]", 20)
    'estimator...re=0.25]'
    """
    half = (width - 2) // 2
    cut = text if len(text) <= width else f"{text[:half]}...{text[3 + half - width :]}"
    return f" {cut}" if cut.startswith("_") else cut


def looks(evidence: Evidence) -> dict[str, Mark]:
    """How each series of the study looks, the same in every figure."""
    return marks(evidence.series)


def grid(
    figure: Figure, keys: Mapping[Any, Sequence[str]], columns: int, *, height: float = 2.3, last_across: bool = False
) -> dict[Any, Axes]:
    """Axes for each key, row by row; lays the figure out.

    Args:
        figure: an empty one.
        keys: of the panels, tuples, with the lines of each one's title.
        columns: beside each other at most.
        height: of a panel, inches.
        last_across: what differs in the last item of the key alone stands in one row, where it fits.
    """
    lasts = list(dict.fromkeys(key[-1] for key in keys)) if last_across else []
    aligned = 1 < len(lasts) <= columns
    rows = list(dict.fromkeys(key[:-1] for key in keys)) if aligned else []
    columns = len(lasts) if aligned else min(columns, len(keys))
    deep = len(rows) if aligned else math.ceil(len(keys) / columns)
    width = 3.75 if columns == 1 and len(keys) > 1 else {1: 5.6, 2: 4.2}.get(columns, 3.4)
    letters = int(width * 11.5)
    titles = {key: [line for text in title for line in textwrap.wrap(text, letters)[:3]] for key, title in keys.items()}
    figure.set_layout_engine("constrained", h_pad=0.06, w_pad=0.06)
    figure.set_size_inches(width * columns, (height + 0.15 * max(map(len, titles.values()), default=0)) * deep)
    found = {}
    for number, (key, lines) in enumerate(titles.items()):
        place = columns * rows.index(key[:-1]) + lasts.index(key[-1]) if aligned else number
        found[key] = axes = figure.add_subplot(deep, columns, place + 1)
        axes.set_title("\n".join(lines))
    return found


def title(columns: Sequence[str], key: Sequence[Any]) -> list[str]:
    """The lines of a panel's title, from the columns that tell panels apart and their values here."""
    pairs = zip(columns, key, strict=False)
    return [f"{text} gradient" if column == "part" else str(text) for column, text in pairs if text]


def legend(figure: Figure, evidence: Evidence, shown: Iterable[str]) -> None:
    """Which estimator is which, with the seeds that finished of those asked for, below all panels."""
    from matplotlib.lines import Line2D

    look, asked = looks(evidence), evidence.asked
    names = [name for name in evidence.series if name in set(shown)]
    handles, labels = [], []
    for name in names:
        mine = asked[asked["series"] == name]
        ok = int((mine["status"] == "done").sum())
        colour, shape, dash = look[name]
        style: dict[str, Any] = {"color": colour, "marker": shape, "linestyle": dash, "markersize": 5}
        handles.append(Line2D([], [], **style))
        old = " stale" if 0 < len(evidence.stale) < len(asked) and mine["cell"].isin(evidence.stale).any() else ""
        labels.append(f"{label(name)} {ok}/{len(mine)}{old}")
    width, height = figure.get_size_inches()
    columns = max(1, min(len(names), int(width * 13.5 / (max(map(len, labels), default=1) + 7))))
    figure.set_size_inches(width, height + _LEGEND_LINE * math.ceil(len(names) / columns) + 0.1)
    figure.legend(handles, labels, loc="outside lower left", ncols=columns, handlelength=2.6, columnspacing=1.2)


def fit(axis: Axis, points: Iterable[float], ends: Iterable[float], *, log: bool) -> None:
    """Limits and ticks of an axis: every point but those far out, and intervals as far as they do not dwarf the points.

    Args:
        axis: ``axes.xaxis`` or ``axes.yaxis``.
        points: values shown.
        ends: of their intervals.
        log: whether the axis is logarithmic.
    """
    import numpy as np

    scale = (lambda values: [math.log10(v) for v in values if 0 < v < math.inf]) if log else _finite
    kept, reaching = scale(points), scale(ends)
    if not kept:
        return
    middle = float(np.median(kept))
    reach = max(_OUTLYING * float(np.median(np.abs(np.asarray(kept) - middle))), 6 if log else 3 * abs(middle))
    kept = [value for value in kept if abs(value - middle) <= reach] if reach else kept
    low, high = min(kept), max(kept)
    room = (high - low) or (1.0 if log else math.inf)
    low, high = (
        min(low, max(low - room, min(reaching, default=low))),
        max(high, min(high + room, max(reaching, default=high))),
    )
    margin = 0.07 * (high - low) or (0.3 if log else 0.05 * abs(low) or 1.0)
    low, high = low - margin, high + margin
    if log:
        (axis.axes.set_xscale if axis is axis.axes.xaxis else axis.axes.set_yscale)("log")
        _log_ticks(axis, high - low)
        low, high = 10**low, 10**high
    axis.set_view_interval(low, high, ignore=True)


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _log_ticks(axis: Axis, decades: float) -> None:
    """At most six, written as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    subs = (1.0,) if decades > 2 else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=subs, numticks=7) if decades > 0.7 else MaxNLocator(4))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))


def compact(value: float) -> str:
    """A positive number in a few letters.

    >>> [compact(v) for v in (0.000123, 0.5, 1500.0, 2_000_000.0)]
    ['1.23e-4', '0.5', '1500', '2e6']
    """
    if 1e-3 <= abs(value) < 1e5 or not value:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    digits, _, power = f"{value:.2e}".partition("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(power)}"


def clipped(axes: Axes, points: Iterable[tuple[float, float, str]], looks: Mapping[str, Mark]) -> None:
    """Arrows at the edge for points (x, y, series) beyond the limits of the axes."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    for x, y, name in points:
        arrow = "v" if y < low else "^" if y > high else "<" if x < left else ">" if x > right else ""
        if arrow:
            place = min(max(x, left), right), min(max(y, low), high)
            axes.plot(*place, arrow, color=looks[name].colour, clip_on=False, zorder=5)


def absent(axes: Axes, names: Sequence[str]) -> None:
    """Says which series have nothing to show in a panel."""
    if names:
        some = [label(name, 24) for name in names[:2]] + ([f"{len(names) - 2} more"] if len(names) > 2 else [])
        text = "\n".join(textwrap.wrap(f"no finite value: {'; '.join(some)}", 52))
        axes.text(0.02, 0.03, text, transform=axes.transAxes, fontsize=7).set_in_layout(False)
