"""Strips: one row per estimator with its mean, its interval and every seed."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from vbench.report.evidence import Evidence
from vbench.report.figures import panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["draw_strips"]


def draw_strips(
    figure: Figure, evidence: Evidence, table: DataFrame, columns: int, *, xlabel: str, log: bool = False
) -> list[Axes]:
    """One panel for each model; rows are named with the seeds that finished and what became of the others.

    Args:
        figure: an empty one.
        evidence: the study.
        table: numbers, one row per combination.
        columns: panels beside each other at most.
        xlabel: with its unit.
        log: whether the x axis is logarithmic.
    """
    groups = dict(list(table.groupby(["panel"], sort=False)))
    tallest = max(len(group) for group in groups.values())
    titles = {key: panels.title(["panel"], key) for key in groups}
    placed = panels.grid(figure, titles, min(columns, 2), height=0.9 + 0.27 * tallest)
    for key, axes in placed.items():
        _panel(axes, evidence, groups[key], log)
        axes.set_xlabel(xlabel)
    return list(placed.values())


def _panel(axes: Axes, evidence: Evidence, group: DataFrame, log: bool) -> None:
    looks = panels.looks(evidence)
    names = [name for name in evidence.series if name in set(group["series"])]
    points = [*group["value"], *(seed.value for seeds in group["seeds"] for seed in seeds)]
    panels.fit(axes.xaxis, points, [*group["low"], *group["high"]], log=log)
    ends = axes.get_xlim()
    for height, name in enumerate(names):
        row = group[group["series"] == name].iloc[0]
        colour, shape, _ = looks[name]
        if len(row["seeds"]) > 1:
            values = [seed.value for seed in row["seeds"]]
            axes.plot(values, [height] * len(values), ".", color=colour, alpha=0.5, markersize=5, zorder=2)
        if row["value"] == row["value"]:
            error = [[max(row["value"] - row["low"], 0) or 0], [max(row["high"] - row["value"], 0) or 0]]
            known = row["low"] == row["low"] and ends[0] <= row["value"] <= ends[1]
            whole = row["n_ok"] == row["n_total"]
            axes.errorbar(
                row["value"], height, xerr=error if known else None, color=colour, marker=shape, markersize=6,
                markerfacecolor=colour if whole else "none", elinewidth=1.1, capsize=2, linestyle="none", zorder=3,
            )  # fmt: skip
            if not ends[0] <= row["value"] <= ends[1]:
                edge, arrow = (ends[0], "<") if row["value"] < ends[0] else (ends[1], ">")
                axes.plot(edge, height, arrow, color=colour, clip_on=False, zorder=5)
    axes.set_xlim(ends)
    axes.set_yticks(range(len(names)), [_counted(evidence, group, name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _counted(evidence: Evidence, group: DataFrame, name: str) -> str:
    """``rloo[k=4] 2/3 (1 diverged)``."""
    row = group[group["series"] == name].iloc[0]
    mine = evidence.asked[evidence.asked["combination"] == row["combination"]]
    lost = Counter(status for status in mine["status"] if status != "done")
    why = f" ({', '.join(f'{count} {status}' for status, count in sorted(lost.items()))})" if lost else ""
    return f"{panels.label(name, 30)}  {row['n_ok']}/{row['n_total']}{why}"
