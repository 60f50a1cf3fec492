"""Planes: each estimator a point of two measurements, with the interval of both."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vbench.report.evidence import Evidence
from vbench.report.figures import panels
from vbench.report.figures.style import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame, Series

__all__ = ["draw_planes", "front_of", "paired"]


def paired(table: DataFrame, across: str, up: str, keys: Sequence[str] = ()) -> DataFrame:
    """Numbers of metric ``up`` with those of metric ``across`` beside them, as columns that begin with ``x_``."""
    keys = ["combination", "step", *keys]
    beside = table.loc[table["metric"] == across, [*keys, "value", "low", "high", "seeds"]]
    return table[table["metric"] == up].merge(
        beside.rename(columns={name: f"x_{name}" for name in ("value", "low", "high", "seeds")}), on=keys
    )


def draw_planes(
    figure: Figure,
    evidence: Evidence,
    points: DataFrame,
    columns: int,
    *,
    by: tuple[str, ...],
    ylabel: str,
    log: Mapping[str, str] | str = "",
    front: bool = False,
) -> list[Axes]:
    """One panel for each value of the columns ``by``.

    Args:
        figure: an empty one.
        evidence: the study.
        points: of :func:`paired`, with a column ``xlabel``.
        columns: panels beside each other at most.
        by: columns that tell panels apart, ``xlabel`` besides.
        ylabel: with its unit.
        log: which axes are logarithmic, ``xy``, ``x``, ``y`` or none; or that for each ``xlabel``.
        front: draw the Pareto front, what no other estimator beats on both axes.
    """
    groups = {key: group for key, group in points.groupby([*by, "xlabel"], sort=False) if group["value"].notna().any()}
    titles = {key: panels.title(by, key) for key in groups}
    placed = panels.grid(figure, titles, columns, height=2.7, last_across=True)
    for key, axes in placed.items():
        group = groups[key]
        logs = log if isinstance(log, str) else log.get(str(key[-1]), "")
        for axis, own, name in ((axes.xaxis, "x_", "x"), (axes.yaxis, "", "y")):
            values = [*group[f"{own}value"], *(seed.value for found in group[f"{own}seeds"] for seed in found)]
            panels.fit(axis, values, [*group[f"{own}low"], *group[f"{own}high"]], log=name in logs)
        axes.autoscale(enable=False)
        _points(axes, evidence, group)
        if front:
            _front(axes, group)
        places = list(zip(group["x_value"], group["value"], group["series"], strict=True))
        panels.clipped(axes, places, panels.looks(evidence))
        panels.absent(axes, [name for x, y, name in places if not (math.isfinite(x) and math.isfinite(y))])
        axes.set_xlabel(str(key[-1]))
        axes.set_ylabel(ylabel)
    panels.legend(figure, evidence, points["series"])
    return list(placed.values())


def _points(axes: Axes, evidence: Evidence, group: DataFrame) -> None:
    looks = panels.looks(evidence)
    for name in evidence.series:
        for _, row in group[(group["series"] == name) & group["value"].notna()].iterrows():
            colour, shape, _ = looks[name]
            across = {seed.seed: seed.value for seed in row["x_seeds"]}
            both = [(across[seed.seed], seed.value) for seed in row["seeds"] if seed.seed in across]
            if len(both) > 1:
                axes.plot(*zip(*both, strict=True), ".", color=colour, alpha=0.45, markersize=4, zorder=2)
            axes.errorbar(
                row["x_value"], row["value"], xerr=_error(row, "x_"), yerr=_error(row, ""), color=colour,
                marker=shape, markersize=6.5, elinewidth=0.9, linestyle="none", zorder=3,
                markerfacecolor=colour if row["n_ok"] == row["n_total"] else "none",
            )  # fmt: skip
            if row["n_ok"] < row["n_total"]:
                axes.annotate(
                    f"{row['n_ok']}/{row['n_total']}", (row["x_value"], row["value"]), (6, 3), fontsize=7.5,
                    textcoords="offset points", color=colour, annotation_clip=True,
                )  # fmt: skip


def _error(row: Series[Any], axis: str) -> list[list[float]] | None:
    value, low, high = (row[f"{axis}{name}"] for name in ("value", "low", "high"))
    return [[max(value - low, 0)], [max(high - value, 0)]] if math.isfinite(low) and math.isfinite(high) else None


def front_of(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other is at or below in both coordinates, from left to right.

    >>> front_of([(1, 9), (2, 3), (3, 4), (4, 1)])
    [(1, 9), (2, 3), (4, 1)]
    """
    front: list[tuple[float, float]] = []
    for point in sorted(set(points)):
        if not front or point[1] < front[-1][1]:
            front.append(point)
    return front


def _front(axes: Axes, group: DataFrame) -> None:
    whole = group[group["n_ok"] == group["n_total"]]  # a mean over survivors beats nobody
    pairs = zip(whole["x_value"], whole["value"], strict=True)
    front = front_of([(x, y) for x, y in pairs if math.isfinite(x) and math.isfinite(y)])
    if len(front) > 1:
        axes.step(*zip(*front, strict=True), where="post", color=INK, linewidth=0.8, alpha=0.6, zorder=1)
