"""Every estimator of a study against one of them: paired by seed within one group, and within one estimand."""

from __future__ import annotations

import difflib
import math
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vbench.records import load, no_results
from vbench.report.intervals import ALPHA, holm
from vbench.report.metrics import scale_of
from vbench.report.pairing import COMPARED, rows
from vbench.report.selection import LABELS, ComparisonError, Group, ask, groups
from vbench.report.tuning import at_best

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["COLUMNS", "ComparisonError", "compare", "paired_ratios"]

COLUMNS: Final = (
    *(*LABELS, "settings", "part", "split", "step", "metric", "unit", "at", "baseline", "estimator", "estimand"),
    *("kind", "value", "baseline_value", "estimate", "low", "high", "basis", "seeds", "survivors", "std_error"),
    *("mc_std_error", "between_sd", "p", "p_holm", "margin", "p_equivalence", "verdict", "evaluations", "seconds"),
    *("n_ok", "n_total", "remarks"),
)
_RATIO_MARGIN: Final = 0.10


def compare(
    study: str | Path,
    metric: str,
    baseline: str,
    *,
    part: str | None = None,
    by: str | None = None,
    split: str | None = None,
    step: int | None = None,
    at: str = "k",
    margin: float | None = None,
    tuned: bool = False,
) -> DataFrame:
    r"""Every estimator of a study against a baseline, from its records.

    Cells are paired by seed where dataset, model, training and measurement are the same. What is positive by nature
    (variances, signal-to-noise ratios, throughput) compares by the ratio :math:`v / v_\text{baseline}`, geometric mean
    over seeds; what is in nats by the difference, mean over seeds. Intervals are 95% each:

    * ``basis`` ``seeds`` (two or more): the t-interval of the log ratios or differences over seeds;
    * ``draws`` (one seed): :math:`\log r \pm t\, \sqrt{(\mathrm{se}_1 / v_1)^2 + (\mathrm{se}_2 / v_2)^2}`, Monte
      Carlo error at one checkpoint;
    * ``none``: no error is known (one seed, and seconds are compared, or the metric has none).

    p-values are two-sided, of the t-test; of nats by sign flips over seeds, from 6 seeds on. Holm's correction is over
    all comparisons returned, and verdicts are at 5% after it. Equivalence is two one-sided t-tests, corrected as a
    family of its own.

    Args:
        study: its folder, ``results/<study>``.
        metric: a metric's name (``gradient_variance``, ``elbo``, ...).
        baseline: an estimator, ``rloo[k=4]``, or ``rloo`` where the study has one of it.
        part: ``all`` (default, where the metric has it), ``encoder``, ``decoder``, ``prior``, or a layer of one.
        by: ``part`` or ``layer``: rows for every one.
        split: ``train``, ``valid`` or ``test``; by default the last of them that the metric has.
        step: by default the last of each group.
        at: the cost held equal. ``k``: as recorded; ``evaluations``: variance x decoder evaluations; ``seconds``:
            variance x seconds of one gradient.
        margin: of equivalence: a fraction for ratios (.10 by default), in the metric's unit for differences (none by
            default).

    Returns:
        One row for each group, part and estimator, the baseline's among them; ``verdict`` says why a row has no
        figure. docs/design.md, section 7, tells the columns.

    Raises:
        FileNotFoundError: the folder holds no results.
        ComparisonError: what was asked for is not there, in one line.

    Source: Glynn & Whitt (1992), The Asymptotic Efficiency of Simulation Estimators, doi:10.1287/opre.40.3.505
    (variance x time); Holm (1979) and Schuirmann (1987) as in ``vbench.report.intervals``.
    """
    if none := no_results(Path(study)):
        raise FileNotFoundError(none + _hint(Path(study)))
    records, cells = load(study), load(study, "cells")
    if tuned:
        cells = at_best(records, cells)
    return paired_ratios(
        records, cells, metric, baseline, part=part, by=by, split=split, step=step, at=at, margin=margin
    )


def paired_ratios(
    records: DataFrame,
    cells: DataFrame,
    metric: str,
    baseline: str,
    *,
    part: str | None = None,
    by: str | None = None,
    split: str | None = None,
    step: int | None = None,
    at: str = "k",
    margin: float | None = None,
) -> DataFrame:
    """:func:`compare` of the two frames of :func:`vbench.load`."""
    import pandas as pd

    if margin is not None and not 0 < margin < math.inf:
        raise ComparisonError(f"margin is above 0, not {margin:g}")
    if margin is None and scale_of(metric).ratio:
        margin = _RATIO_MARGIN
    done = cells.loc[cells["status"] == "done", "cell"]
    records = records[records["cell"].isin(done)]
    question = ask(records, cells, metric, baseline, part=part, by=by, split=split, step=step, at=at)
    busy = _ran_beside_others(cells) if question.timed else set()
    found = [
        row
        for group in groups(cells, timed=question.timed)
        for name in question.parts
        if not by or _has(records, group, name, metric)
        for row in rows(records, question, group, name, margin, busy)
    ]
    table = pd.DataFrame(found, columns=list(COLUMNS))
    table["step"] = table["step"].astype("Int64")
    table["p_holm"] = holm(table["p"].tolist())
    table["p_equivalence"] = holm(table["p_equivalence"].tolist())
    words = [_verdict(row, margin) if row.verdict == COMPARED else row.verdict for row in table.itertuples()]
    return table.assign(verdict=pd.Series(words, index=table.index, dtype="str"))


def _has(records: DataFrame, group: Group, part: str, metric: str) -> bool:
    """Whether the group's models have this part, or nothing that finished to tell it by."""
    mine = records[records["cell"].isin(group.cells["cell"])]
    return mine.empty or bool(((mine["metric"] == metric) & (mine["part"] == part)).any())


def _verdict(row: Any, margin: float | None) -> str:
    """In words, after Holm's correction."""
    within = ""
    if margin is not None and row.p_equivalence < ALPHA:
        within = f"within {100 * margin:g}%" if row.kind == "ratio" else f"within {margin:g} {row.unit}"
    if row.p_holm < ALPHA:
        side = "lower" if row.estimate < (1 if row.kind == "ratio" else 0) else "higher"
        return f"{side}, {within}" if within else side
    if within:
        return f"equal {within}"
    if row.p_holm == row.p_holm:
        return "not distinguished"
    return "too few seeds" if row.basis == "seeds" else "no error known"


def _ran_beside_others(cells: DataFrame) -> set[str]:
    """Cells whose run overlaps another's by more than a second, the resolution of ``started``."""
    import numpy as np

    if not {"started", "seconds"} <= set(cells):
        return set()
    timed = cells[cells["seconds"].notna() & (cells["started"] != "")]
    start = np.array([datetime.fromisoformat(text).timestamp() for text in timed["started"]])
    end = start + timed["seconds"].to_numpy(float)
    shared = np.minimum(end[:, None], end) - np.maximum(start[:, None], start) > 1
    np.fill_diagonal(shared, False)
    return set(timed["cell"].astype("str")[shared.any(1)])


def _hint(folder: Path) -> str:
    """The study that may have been meant."""
    near = [f for root in (folder.parent, Path("results")) for f in sorted(root.glob("*")) if (f / "records").is_dir()]
    meant = difflib.get_close_matches(folder.name, [f.name for f in near], n=1)
    return f"; did you mean {next(f for f in near if f.name == meant[0])}?" if meant else ""
