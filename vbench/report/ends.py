"""Trainings that end at different steps, as budgets and patience make them: what ended stays what it was.

What a finished cell measured at its end stands at every later step at which others like it were measured, and at the
last of their ends, so that means over seeds are over the same seeds, and final figures over final models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pandas import DataFrame, Series

__all__ = ["aligned", "lost", "told"]

_ALONG: Final = ("bound", "examples_per_second", "seconds_per_step", "peak_memory")  # on training data, by training


def aligned(records: DataFrame, cells: DataFrame, alike: Series) -> DataFrame:
    """The records, with what cells measured at their ends also where others like them still went on.

    Args:
        records: rows as :func:`vbench.load` gives them.
        cells: rows of the cells table.
        alike: for each of these, a name that cells like it share.
    """
    import pandas as pd

    if "ended_after" not in cells:
        return records
    ends = cells.assign(alike=alike)[(cells["status"] == "done") & cells["ended_after"].notna()]
    ends = ends[ends.groupby("alike")["ended_after"].transform("nunique") > 1]
    if ends.empty:
        return records
    keys = records["cell"].astype("str")
    end = keys.map(dict(zip(ends["cell"].astype("str"), ends["ended_after"].astype("int64"), strict=True)))
    elsewhere = keys.isin(_measured_at_reference(ends)) & (records["split"] == "train")
    elsewhere &= ~records["metric"].isin(_ALONG)
    along = end.notna() & ~elsewhere
    group = keys.map(dict(zip(ends["cell"].astype("str"), ends["alike"], strict=True)))
    names = [records[name].astype("str") for name in ("metric", "split", "part")]
    moved = []
    for place, mine in records[along].groupby([group[along], *(name[along] for name in names)], sort=False):
        own = end[mine.index]
        last = int(end[along & (group == place[0])].max())
        steps = {int(step) for step in mine.loc[mine["step"] < own, "step"]} | {last}
        final = mine[mine["step"] == own]
        moved += [final[own[final.index] <= step].assign(step=step) for step in sorted(steps)]
    kept = records[~(along & (records["step"] == end))]
    found: DataFrame = pd.concat([kept, *moved], ignore_index=True)
    return found.astype(records.dtypes.to_dict())


def _measured_at_reference(cells: DataFrame) -> set[str]:
    """Cells whose gradients have the steps of another run."""
    if "measure.gradients.at" not in cells:
        return set()
    return set(cells.loc[cells["measure.gradients.at"] == "shared", "cell"].astype("str"))


def told(cells: DataFrame) -> str:
    """When and why trainings ended, where anything but a number of steps ended one; empty elsewhere."""
    if not {"ended_after", "ended_by"} <= set(cells) or not (cells["ended_by"].dropna() != "steps").any():
        return ""
    steps, why = cells["ended_after"].dropna().astype("int64"), sorted(set(cells["ended_by"].dropna()))
    low, high = steps.min(), steps.max()
    return f"training ended after {low if low == high else f'{low} to {high}'} steps, by {', '.join(why)}"


def lost(cell: Series) -> str:
    """What became of a seed that did not finish."""
    why = f": {cell['reason']}" if cell["reason"] else ""
    return f"seed {cell['seed']} {cell['status']}{why}"
