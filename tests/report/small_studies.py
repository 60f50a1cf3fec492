"""Small studies with known records, written as a run would write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from vbench.records import Outcome, Row, Store

LABELS = {"dataset": "digits", "encoder": "gaussian", "decoder": "bernoulli", "prior": "standard-normal", "train": ""}
BOUNDS = {
    "reparam": ("ELBO(kind='lower', linear=True, smooth=True)", 1),
    "rloo[k=4]": ("ELBO(kind='lower', linear=True, smooth=True)", 4),
    "iwae[k=5]": ("IWAE(kind='lower', linear=False, smooth=True)", 5),
}
STEPS = (0, 100, 200)
ELBO = {
    "reparam": [-90.0, -92.0, -97.0],
    "rloo[k=4]": [-95.0, -99.0, None],
    "iwae[k=5]": [-93.0, -94.0, -98.5],
}
"""Final test ELBO by seed; None: the seed diverged after step 100."""

VARIANCE = {"reparam": [4.0, 8.0, 2.0], "rloo[k=4]": [1.0, 4.0, 2.0], "iwae[k=5]": [3.0, 5.0, 7.0]}
"""Encoder gradient variance at the last checkpoint by seed; at step s it is multiplied by (1 + s) / 201."""


def rows(estimator: str, seed: int, steps: Sequence[int] = STEPS) -> list[Row]:
    """Of one cell, as far as the steps go."""
    final, noise = ELBO[estimator][seed] or -120.0, VARIANCE[estimator][seed]
    k = BOUNDS[estimator][1]
    found = []
    for step in steps:
        scale = (1 + step) / 201
        for part, size in (("all", 1.5), ("encoder", 1.0), ("decoder", 0.5)):
            value = noise * scale * size
            found += [
                Row(step, "train", "gradient_variance", part, value, 0.1 * value, 100, "nats^2"),
                Row(step, "train", "gradient_snr", part, 1 / value, None, 100, "1"),
                Row(step, "train", "work_normalized_variance", part, value * 0.002 * k, None, 100, "nats^2 s"),
            ]
        found.append(Row(step, "train", "function_evaluations", "all", float(k), None, None, "1"))
        if step:
            found.append(Row(step, "valid", "elbo", "all", final - 200 / step, 0.5, 50, "nats"))
            found.append(Row(step, "valid", "bound", "all", final - 200 / step, 0.5, 50, "nats"))
    if 200 in steps:
        found += [
            Row(200, "test", "elbo", "all", final, 0.5, 50, "nats"),
            Row(200, "test", "log_likelihood", "all", final + 2, 0.5, 50, "nats"),
            Row(200, "test", "rate", "encoder", 5.0 + seed, 0.1, 50, "nats"),
            Row(200, "test", "distortion", "decoder", -final - 5.0 - seed, 0.4, 50, "nats"),
            Row(200, "train", "examples_per_second", "all", 1000.0 * (1 + seed), None, 20000, "1/s"),
            Row(200, "train", "seconds_per_step", "all", 0.01 * (1 + seed), None, 200, "s"),
        ]
    return found


def commit(
    store: Store,
    estimator: str,
    seed: int,
    status: str = "done",
    measured: Sequence[Row] = (),
    reason: str = "",
    labels: Mapping[str, str] = LABELS,
    key: str = "",
    spec: Mapping[str, object] | None = None,
) -> None:
    """One attempt at one cell."""
    bound, k = BOUNDS.get(estimator, BOUNDS["reparam"])
    name = key or f"{sorted(BOUNDS).index(estimator)}cell{seed}"
    known = {"bound": bound, "k": k, "seconds": 2.0, "skipped_measures": ""}
    facts = known if measured or status == "done" else {}  # what failed at once has told nothing
    given = dict(labels) | {"estimator": estimator}
    store.commit(
        Outcome(name, status, reason, given, seed, spec=spec or {}, facts=facts, started="2026-01-02T03:04:05+00:00"),
        measured,
    )


def study(folder: Path, estimators: Sequence[str] = tuple(ELBO), seeds: int = 3) -> Path:
    """Three estimators of two bounds, three seeds; one seed of ``rloo[k=4]`` diverged, one cell was skipped."""
    store = Store(folder)
    for estimator in estimators:
        for seed in range(seeds):
            if ELBO[estimator][seed] is None:
                commit(store, estimator, seed, "diverged", rows(estimator, seed, (0, 100)), "step 150: it is nan")
            else:
                commit(store, estimator, seed, measured=rows(estimator, seed))
    elsewhere = dict(LABELS) | {"encoder": "bernoulli"}
    commit(store, "reparam", 0, "skipped", reason="needs pathwise", labels=elsewhere, key="skipped0")
    return folder
