"""Curves over training: one line per estimator, every seed as a faint point, failed seeds up to where they failed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from vbench.report.evidence import Evidence
from vbench.report.figures import panels
from vbench.report.figures.style import Mark

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["draw_curves"]

_FEW = 10  # seeds, shown one by one


def draw_curves(
    figure: Figure,
    evidence: Evidence,
    table: DataFrame,
    columns: int,
    *,
    ylabel: str,
    by: tuple[str, ...] = ("panel",),
    xlabel: str = "training steps",
    log: bool = False,
) -> list[Axes]:
    """One panel for each value of the columns ``by``; ``table`` has ``x`` where that is not the step.

    Args:
        figure: an empty one.
        evidence: the study.
        table: numbers.
        columns: panels beside each other at most.
        ylabel, xlabel: with units.
        by: columns that tell panels apart.
        log: whether the y axis is logarithmic.
    """
    from matplotlib.ticker import MaxNLocator

    table = table if "x" in table else table.assign(x=table["step"].astype(float))
    groups = {key: group for key, group in table.groupby(list(by), sort=False) if group["value"].notna().any()}
    placed = panels.grid(figure, {key: panels.title(by, list(key)) for key in groups}, columns, last_across=len(by) > 1)
    looks = panels.looks(evidence)
    for key, axes in placed.items():
        _panel(axes, evidence, groups[key], looks, log)
        axes.set_xlabel(xlabel)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        place = axes.get_subplotspec()
        if place is not None and place.is_first_col():
            axes.set_ylabel(ylabel)
    panels.legend(figure, evidence, table["series"])
    return list(placed.values())


def _panel(axes: Axes, evidence: Evidence, group: DataFrame, looks: dict[str, Mark], log: bool) -> None:
    unfinished = _unfinished(evidence, group) if (group["x"] == group["step"]).all() else {}
    finished = [*zip(group["x"], group["value"], group["series"], strict=True), *_seeds(group)]
    panels.fit(axes.yaxis, (value for _, value, _ in finished), [*group["low"], *group["high"]], log=log)
    axes.set_autoscaley_on(False)
    here = [name for name in evidence.series if (group["series"] == name).any()]
    shown = set(group.loc[group["value"].notna(), "series"])
    for name in here:
        if name in shown:
            _line(axes, group[group["series"] == name].sort_values("x"), looks[name])
    for (name, _), points in unfinished.items():
        xs, values = zip(*points, strict=True)
        axes.plot(xs, values, ":", color=looks[name].colour, linewidth=0.7, alpha=0.8)
        axes.plot(xs[-1:], values[-1:], "x", color=looks[name].colour, markersize=6)
    beyond = [(x, value, name) for (name, _), points in unfinished.items() for x, value in points]
    axes.autoscale_view(scaley=False)  # now: with the switch off it would never be done
    axes.set_autoscale_on(False)
    panels.clipped(axes, [*finished, *beyond], looks)
    panels.absent(axes, [name for name in here if name not in shown])


def _line(axes: Axes, mine: DataFrame, mark: Mark) -> None:
    """Means with intervals; open marks where seeds are missing from the mean, with how many there are at the end."""
    kept = mine[mine["value"].notna()]
    whole = kept[kept["n_ok"] == kept["n_total"]]
    style: dict[str, Any] = {"color": mark.colour, "markersize": 4.5}
    low, high = axes.get_ylim()
    within = kept["value"].between(low, high)  # the interval of an arrow at the edge would cross the whole panel
    below = (kept["value"] - kept["low"]).where(within).fillna(0)
    above = (kept["high"] - kept["value"]).where(within).fillna(0)
    axes.errorbar(
        kept["x"], kept["value"], yerr=[below, above], **style, marker=mark.shape, markerfacecolor="none",
        linestyle=mark.dash, elinewidth=0.9, zorder=3,
    )  # fmt: skip
    axes.plot(whole["x"], whole["value"], mark.shape, **style, zorder=4)
    seeds = _seeds(kept)
    if seeds and max(map(len, kept["seeds"])) <= _FEW:
        xs, values, _ = zip(*seeds, strict=True)
        axes.plot(xs, values, ".", color=mark.colour, alpha=0.45, markersize=3.5, zorder=2)
    last = kept.iloc[-1]
    if last["n_ok"] < last["n_total"]:
        axes.annotate(
            f"{last['n_ok']}/{last['n_total']}", (last["x"], last["value"]), (5, 0), textcoords="offset points",
            color=mark.colour, fontsize=7.5, va="center", annotation_clip=True,
        )  # fmt: skip


def _seeds(group: DataFrame) -> list[tuple[float, float, str]]:
    """Each seed's own x, value and series, where there are two or more."""
    rows = zip(group["x"], group["seeds"], group["series"], strict=True)
    return [(x, seed.value, name) for x, seeds, name in rows if len(seeds) > 1 for seed in seeds]


def _unfinished(evidence: Evidence, group: DataFrame) -> dict[tuple[str, int], list[tuple[float, float]]]:
    """What each seed that failed had measured before it did: steps and values by series and seed."""
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for source in group[["metric", "split", "part"]].drop_duplicates().itertuples(index=False):
        rows = evidence.rows(*source)
        rows = rows[(rows["status"] != "done") & rows["combination"].isin(group["combination"])]
        for step, value, name, seed in zip(rows["step"], rows["value"], rows["series"], rows["seed"], strict=True):
            if math.isfinite(value):
                found.setdefault((name, seed), []).append((step, value))
    return found
