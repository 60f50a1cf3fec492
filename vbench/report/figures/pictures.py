"""Samples and reconstructions as pictures, each with what was measured of it."""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING, Final

from vbench.report.evidence import Evidence
from vbench.report.figures import panels
from vbench.report.figures.chart import Chart
from vbench.report.numbers import MissingError, measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["RECONSTRUCTIONS", "SAMPLES"]

_TOLD: Final = {
    "samples": (("log_likelihood", "test", "all", "log p(x)"), ("sample_frechet", "simulated", "all", "Fréchet")),
    "reconstructions": (("distortion", "test", "decoder", "distortion"), ("rate", "test", "encoder", "rate")),
}


def _numbers(evidence: Evidence, kind: str) -> DataFrame:
    import pandas as pd

    if not any(kind in shown for shown in evidence.pictures.values()):
        raise MissingError(f"no pictures of {kind} in the records (measure: {{sample_quality: {{}}}})")
    found = measured(evidence, [(metric, split, part) for metric, split, part, _ in _TOLD[kind]])
    if not found:
        raise MissingError(f"nothing measured to tell of {kind}")
    return pd.concat(found, ignore_index=True)


def _draw(figure: Figure, evidence: Evidence, table: DataFrame, columns: int, *, kind: str) -> list[Axes]:
    import matplotlib.image

    done = evidence.asked.sort_values(["combination", "seed"])
    shown = {cell: each[kind] for cell, each in evidence.pictures.items() if kind in each}
    firsts = done[done["cell"].isin(shown)].drop_duplicates("combination")
    rows = firsts[["combination", "series", "panel", "cell"]].to_dict("records")
    titles = {row["combination"]: [panels.label(row["series"]), row["panel"]] for row in rows}
    placed = panels.grid(figure, titles, columns, height=2.9)
    for row in rows:
        axes = placed[row["combination"]]
        axes.imshow(matplotlib.image.imread(io.BytesIO(shown[row["cell"]])), cmap="gray", vmin=0, vmax=1)
        axes.set(xticks=[], yticks=[], xlabel=_caption(table[table["combination"] == row["combination"]], kind))
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(False)
    return list(placed.values())


def _caption(mine: DataFrame, kind: str) -> str:
    """``log p(x) -98.1, Fréchet 3.4``."""
    values = dict(zip(mine["metric"], mine["value"], strict=True))
    return ", ".join(f"{word} {values[name]:.4g}" for name, _, _, word in _TOLD[kind] if name in values)


def _chart(kind: str, title: str, shows: str) -> Chart:
    return Chart(kind, title, shows, functools.partial(_numbers, kind=kind), functools.partial(_draw, kind=kind))


SAMPLES = _chart(
    "samples",
    "Samples",
    "Draws of each model at the last step, z of the prior and x of the decoder, of the first seed that finished. Below "
    "stand held-out log p(x) (nats; high is better) and the Fréchet distance of many such draws to test data (low is "
    "better): either can be good where the other is poor.",
)
RECONSTRUCTIONS = _chart(
    "reconstructions",
    "Reconstructions",
    "Lines of test data, and below each the model's draws of x given a code of it, of the first seed that finished.",
)
