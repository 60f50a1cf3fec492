"""What each estimator of a group measured, and its row against the baseline: same seed, same everything else."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from vbench.report import trust
from vbench.report.ends import aligned, lost, told
from vbench.report.estimand import estimand
from vbench.report.intervals import SEEDS_LEAST, effect_of, sign_flip, welch
from vbench.report.metrics import OWN_TARGET, TO_TARGET, scale_of
from vbench.report.selection import ComparisonError, Group, Question

if TYPE_CHECKING:
    from pandas import DataFrame, Series

__all__ = ["COMPARED", "OTHER", "rows"]

COMPARED: Final = "compared"
OTHER: Final = "other estimand"
_DOUBTED: Final = ("FAIL", "INCONCLUSIVE")
_ROUNDING: Final = 1e-6  # gradients are single precision: what agrees so far is equal


@dataclass
class _Measured:
    """One estimator of a group.

    Attributes:
        seeds: one row per seed that has the metric: value, std_error, n, evaluations, seconds.
        done: how many cells finished.
        asked: seeds of those that were to run.
        remarks: what a reader must know of its figures.
    """

    estimator: str
    estimand: str
    seeds: DataFrame
    done: int
    asked: frozenset[int]
    code: str
    remarks: list[str] = field(default_factory=list)

    def mean(self, ratio: bool) -> float:
        return _mean(self.seeds["value"], ratio)


def rows(
    records: DataFrame, question: Question, group: Group, part: str, margin: float | None, busy: set[str]
) -> list[dict[str, Any]]:
    """A row for each estimator of a group, at one part.

    Args:
        records: of cells that are done.
        question: what is compared.
        group: whose estimators.
        part: of the model.
        margin: of equivalence, as a fraction for ratios, else in the metric's unit.
        busy: cells that were timed while others ran.
    """
    mine = aligned(records[records["cell"].isin(group.cells["cell"])], group.cells, group.cells["dataset"])
    found = mine[(mine["metric"] == question.metric) & (mine["split"] == question.split) & (mine["part"] == part)]
    step = question.step if question.step is not None else int(found["step"].max()) if len(found) else None
    table = _with_costs(mine, found[found["step"] == step], question, group)
    own = "measure.gradients.target" in group.cells and (group.cells["measure.gradients.target"] == OWN_TARGET).any()
    apart = own if question.metric in TO_TARGET else scale_of(question.metric).one_estimand
    doubts = trust.doubts(mine, question.metric, question.split)
    measured = [_measured(name, table, question, cells, busy, doubts) for name, cells in _estimators(group)]
    base = next((m for m in measured if m.estimator == question.baseline), None)
    fixed = {
        **group.labels,
        "settings": group.settings,
        "part": part,
        "split": question.split,
        "step": step,
        "metric": question.metric,
        "unit": question.unit + (" s" if question.at == "seconds" else ""),
        "at": question.at,
        "baseline": question.baseline,
        "margin": math.nan if margin is None else margin,
        "kind": "ratio" if scale_of(question.metric).ratio else "difference",
    }
    return sorted((fixed | _row(one, base, question, margin, bool(apart)) for one in measured), key=_rank)


def _rank(row: dict[str, Any]) -> tuple[bool, bool, float, str]:
    """The baseline first, then by size; what has no figure last."""
    figure = row.get("estimate", math.nan)
    return row["verdict"] != "baseline", math.isnan(figure), 0.0 if math.isnan(figure) else figure, row["estimator"]


def _estimators(group: Group) -> Iterator[tuple[str, DataFrame]]:
    for name, cells in group.cells.groupby("estimator", observed=True, sort=False):
        yield str(name), cells


def _with_costs(mine: DataFrame, found: DataFrame, question: Question, group: Group) -> DataFrame:
    """The metric's rows with their cost: of one gradient at that step, or of one step of training."""
    gradients = scale_of(question.metric).draws

    def per_cell(values: Series) -> Series:
        return found["cell"].astype("str").map(values.to_dict()).astype("float64")  # a float where nothing is found too

    def figure(metric: str) -> Series:
        chosen = mine[(mine["metric"] == metric) & (mine["part"] == "all")]
        if gradients:
            chosen = chosen[chosen["step"].isin(found["step"])]
        return per_cell(chosen.drop_duplicates("cell").set_index("cell")["value"])

    if gradients:
        evaluations = figure("function_evaluations")
        seconds = figure("work_normalized_variance") / figure("gradient_variance")
    else:
        cells = group.cells.set_index("cell")
        steps = cells["evaluations_per_step"] if "evaluations_per_step" in cells else cells["seed"] * math.nan
        evaluations, seconds = per_cell(steps), figure("seconds_per_step")
    counts = found["n"].astype("float64").fillna(math.inf)
    table = found.assign(evaluations=evaluations, seconds=seconds, n=counts)
    if question.at != "k":
        table["value"] *= table[question.at]
        table["std_error"] *= table[question.at]
    return table


def _measured(
    name: str, table: DataFrame, question: Question, cells: DataFrame, busy: set[str], doubts: Mapping[str, float]
) -> _Measured:
    import pandas as pd

    seeds = table[table["cell"].isin(cells["cell"])].set_index("seed").sort_index()
    if not seeds.index.is_unique:
        twice = seeds.index[seeds.index.duplicated()][0]
        keys = ", ".join(map(str, seeds.loc[[twice], "cell"]))
        raise ComparisonError(f"{name} seed {twice} is there twice, from different data or defaults: cells {keys}")
    done = cells[cells["status"] == "done"]
    claims = done if len(done) else cells
    bound, k, target = (claims[c].iloc[0] if c in claims else None for c in ("bound", "k", "target"))
    one = _Measured(
        name,
        estimand(
            bound if isinstance(bound, str) else "",
            None if pd.isna(k) else int(k),
            target if isinstance(target, str) else "",
        ),
        seeds[["value", "std_error", "n", "evaluations", "seconds"]],
        len(done),
        frozenset(cells["seed"]),
        " ".join(sorted({str(c) for c in done["code"]})) if "code" in done else "",
    )
    for _, cell in cells[cells["status"] != "done"].sort_values("seed").iterrows():
        one.remarks.append(lost(cell))
    if "unbiased" in done and (done["unbiased"] == False).any():  # noqa: E712 - elementwise
        one.remarks.append("biased by its own account: a lower variance is not a lower error")
    if "judged" in done:
        one.remarks += [f"the judge says {word}" for word in sorted(set(done["judged"]) & set(_DOUBTED))]
    own = done["measure.gradients.at"] == "own" if "measure.gradients.at" in done else done["seed"] != done["seed"]
    if scale_of(question.metric).draws and own.any():
        one.remarks.append("measured where its own training went, not at shared parameters")
    if doubted := trust.remark([doubts[cell] for cell in done["cell"] if cell in doubts]):
        one.remarks.append(doubted)
    if ended := told(done):
        one.remarks.append(ended)
    if "tuned" in cells:
        one.remarks.append(f"tuned: {cells['tuned'].iloc[0]}")
    if busy.intersection(done["cell"]):
        one.remarks.append("timed while other cells ran")
    return one


def _row(
    one: _Measured, base: _Measured | None, question: Question, margin: float | None, apart: bool
) -> dict[str, Any]:
    ratio = scale_of(question.metric).ratio
    row: dict[str, Any] = {
        "estimator": one.estimator,
        "estimand": one.estimand,
        "value": one.mean(ratio),
        "baseline_value": base.mean(ratio) if base else math.nan,
        "evaluations": one.seeds["evaluations"].mean(),
        "seconds": one.seeds["seconds"].median(),
        "n_ok": one.done,
        "n_total": len(one.asked),
        "seeds": len(one.seeds),
        "survivors": one.done < len(one.asked),
        "basis": "none",
        "verdict": COMPARED,
        "remarks": "\n".join(one.remarks),
    }
    if why := _unlike(one, base, apart):
        hidden = {"value": math.nan, "baseline_value": math.nan} if why == OTHER else {}
        return row | hidden | {"verdict": why}
    assert base is not None  # noqa: S101 - _unlike says so
    if one is base:
        return row | {"verdict": "baseline", "estimate": 1.0 if ratio else 0.0}
    pairs = one.seeds.join(base.seeds.add_suffix("_base"), how="inner")
    row |= {
        "seeds": len(pairs),
        "survivors": len(pairs) < len(one.asked & base.asked),
        "value": _mean(pairs["value"], ratio),
        "baseline_value": _mean(pairs["value_base"], ratio),
    }
    if one.code != base.code:
        row["remarks"] = "\n".join([*one.remarks, "made by another version of the code than the baseline"])
    if why := _unclear(pairs, question):
        return row | {"verdict": why}
    return row | _compared(pairs, question, margin)


def _unlike(one: _Measured, base: _Measured | None, apart: bool) -> str:
    """Why there is nothing to compare (estimands ``apart``: within one alone); empty: there is."""
    if not one.done:
        return "failed"
    if one.seeds.empty:
        return "not measured"
    if base is None or base.seeds.empty:
        return "no baseline"
    same = one is base or (one.estimand and one.estimand == base.estimand)
    return OTHER if apart and not same else ""


def _unclear(pairs: DataFrame, question: Question) -> str:
    """Why pairs have no figure; empty: they have one. A seed is never left out to get one."""
    if pairs.empty:
        return "no common seed"
    if question.at != "k" and pairs[[question.at, f"{question.at}_base"]].isna().any(axis=None):
        return f"no {question.at} known"
    values = pairs[["value", "value_base"]].to_numpy(float)
    if (values != values).any():
        return "not resolved"
    lowest = 0 if scale_of(question.metric).ratio else -math.inf
    return "" if ((values > lowest) & (values < math.inf)).all() else "a value is 0 or infinite"


def _mean(values: Series, ratio: bool) -> float:
    """Over seeds: of logs for what compares by ratios, so that the ratio of two means is the mean ratio."""
    if not len(values) or values.isna().any():
        return math.nan
    if ratio and (values > 0).all() and len(values) > 1:
        return math.exp(sum(map(math.log, values)) / len(values))
    return float(values.mean())


def _compared(pairs: DataFrame, question: Question, margin: float | None) -> dict[str, Any]:
    scale = scale_of(question.metric)
    known = 1.0 if scale.draws and not question.timed else math.nan
    a, b = (pairs[name].to_numpy("float64") for name in ("value", "value_base"))
    e, f = (pairs[name].to_numpy("float64") * known for name in ("std_error", "std_error_base"))
    n, m = (pairs[name].to_numpy("float64") for name in ("n", "n_base"))
    if scale.ratio:  # the delta method: the error of a logarithm is the relative error
        a, b, e, f, size = np.log(a), np.log(b), e / a, f / b, np.ones_like(a)
    else:
        size = np.maximum(abs(a), abs(b))
    differences = np.where(abs(a - b) <= _ROUNDING * size, 0.0, a - b)
    effect = effect_of(differences, np.hypot(e, f), welch(e, n, f, m))
    low, high = effect.interval()
    shown = _exp if scale.ratio else float
    signs = effect.basis == "seeds" and not (scale.ratio or scale.draws)
    return {
        "estimate": shown(effect.estimate),
        "low": shown(low),
        "high": shown(high),
        "basis": effect.basis,
        "std_error": effect.std_error,
        "mc_std_error": effect.mc_std_error,
        "between_sd": effect.between_sd,
        "p": effect.p() if not signs else sign_flip(differences) if len(pairs) >= SEEDS_LEAST else math.nan,
        "p_equivalence": effect.p_equivalence(math.log1p(margin) if scale.ratio else margin) if margin else math.nan,
    }


def _exp(x: float) -> float:
    return math.inf if x > 700 else math.exp(x)
