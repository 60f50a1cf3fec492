"""Studies made by hand, through the store, so that what is compared has the shape of what is run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from vbench.records import Outcome, Row, Store

MODEL = {"dataset": "digits", "encoder": "gaussian", "decoder": "bernoulli", "prior": "standard-normal", "train": ""}
ELBO = "ELBO(kind='lower', linear=True, smooth=True)"
IWAE = "IWAE(kind='lower', linear=False, smooth=True)"


class Figure(NamedTuple):
    """One measurement of one cell."""

    value: float
    std_error: float | None = None
    metric: str = "gradient_variance"
    part: str = "all"
    split: str = "train"
    step: int = 100
    n: int | None = 400


def commit(
    folder: Path,
    estimator: str,
    seed: int,
    *figures: Figure,
    status: str = "done",
    reason: str = "",
    k: int = 1,
    evaluations: int | None = None,
    seconds: float = 0.01,
    bound: str = ELBO,
    started: str = "",
    took: float = 1.0,
    provenance: Mapping[str, Any] | None = None,
    spec: Mapping[str, Any] | None = None,
    labels: Mapping[str, str] | None = None,
    **facts: Any,
) -> None:
    """Add one cell with these figures, and what a gradient costs wherever its variance stands."""
    labels = MODEL | {"estimator": estimator} | dict(labels or {})
    evaluations = k if evaluations is None else evaluations
    rows = [Row(f.step, f.split, f.metric, f.part, f.value, f.std_error, f.n, "nats") for f in figures]
    for f in figures:
        if f.metric == "gradient_variance" and f.part == "all":
            work = Row(f.step, "train", "work_normalized_variance", "all", f.value * seconds, None, f.n, "nats^2 s")
            rows += [work, Row(f.step, "train", "function_evaluations", "all", evaluations, None, None, "1")]
    spec = {"train": {"lr": 1e-3}, "measure": {"gradients": {"at": "shared"}}} | dict(spec or {})
    facts = {"bound": bound, "k": k, "evaluations_per_step": evaluations, "seconds": took, "unbiased": True} | facts
    key = hashlib.sha256(repr((sorted(labels.items()), seed, spec)).encode()).hexdigest()[:32]
    outcome = Outcome(key, status, reason, labels, seed, spec, facts, provenance or {"code": "one"}, started=started)
    Store(folder).commit(outcome, rows)


def row(table: pd.DataFrame, estimator: str, **where: Any) -> pd.Series:
    """The one row of an estimator."""
    for column, value in where.items():
        table = table[table[column] == value]
    (index,) = table.index[table["estimator"] == estimator]
    return table.loc[index]
