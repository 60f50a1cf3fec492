"""A study of a second, and what two of them must have in common."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pandas as pd

import vbench

GRID: dict[str, Any] = {
    "name": "small",
    "datasets": ["bernoulli-bars"],
    "encoders": [{"gaussian": {"latent": 3, "hidden": [8]}}],
    "decoders": [{"bernoulli": {"hidden": [8]}}],
    "priors": ["standard-normal"],
    "estimators": ["reparam"],
    "seeds": 3,
    "train": {"steps": 40, "batch": 16},
    "measure": {"every": 20, "data": 20, "samples": 2},
}
TIMING = ("examples_per_second", "seconds_per_step", "peak_memory", "work_normalized_variance")


def small(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy(GRID) | changes


def same_numbers(one: Path, other: Path) -> None:
    """The same rows to the last bit, apart from time and memory."""
    tables = []
    for study in (one, other):
        frame = vbench.load(study)
        frame = frame[~frame["metric"].isin(TIMING)].drop(columns="study").astype({"cell": "str"})
        tables.append(frame.sort_values(["cell", "step", "split", "metric", "part"], ignore_index=True))
    assert len(tables[0])
    pd.testing.assert_frame_equal(*tables, check_exact=True, check_categorical=False, check_dtype=False)
