"""Gradients at the checkpoints of a reference run: which steps, which run, and without training each estimator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import vbench
from vbench.planning import make_plan
from vbench.records import Store
from vbench.study import run

GRID: dict[str, Any] = {
    "name": "shared",
    "datasets": ["bernoulli-bars"],
    "encoders": [{"gaussian": {"latent": 2, "hidden": [4]}}],
    "decoders": [{"bernoulli": {"hidden": [4]}}],
    "priors": ["standard-normal"],
    "estimators": ["reparam", {"iwae": {"k": 2}}],
    "seeds": 1,
    "train": {"steps": 0, "batch": 8},
}


def grid(gradients: dict[str, Any], **changes: Any) -> dict[str, Any]:
    measure = {"data": 8, "samples": 2, "gradients": {"draws": 8, "batches": 1, "at": "shared", **gradients}}
    return {**GRID, "measure": measure, **changes}


def variances(root: Path) -> pd.Series:
    found = vbench.load(root / "shared").query("metric == 'gradient_variance' and part == 'encoder'")
    return found.set_index(["train", "estimator", "step"])["value"].sort_index()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("alone")
    run(grid({"checkpoints": 4, "reference": {"steps": 26}}), results=root, workers=0)
    return root


def test_gradients_alone_train_nothing_but_the_reference(alone: Path) -> None:
    records, cells = vbench.load(alone / "shared"), vbench.load(alone / "shared", "cells")
    assert cells["status"].tolist() == ["done", "done"]
    assert (cells["backward_passes"] == 0).all()
    assert not {"elbo", "bound", "examples_per_second", "log_likelihood"} & set(records["metric"])
    assert sorted(set(variances(alone).index.get_level_values("step"))) == [0, 2, 8, 26]
    reference = Store(alone / "shared" / "references").cells()
    assert reference["backward_passes"].tolist() == [26]
    assert reference["estimator"].tolist() == ["reparam"]


def test_a_reference_is_one_whatever_else_is_trained(alone: Path, tmp_path: Path) -> None:
    """Cells that train, with a swept learning rate and in another order, and with other checkpoints beside."""
    train = {"steps": 26, "batch": 8, "sweep": {"lr": [0.1, 0.01]}}
    trained = grid({"checkpoints": [2, 5]}, train=train, estimators=["iwae[k=2]", "stl", "reparam"])
    plan = make_plan(trained, results=tmp_path)
    assert (plan.count("run"), len(plan.references)) == (6, 1)
    (key,) = {planned.reference for planned in make_plan(trained, results=tmp_path, filters=["train=lr=0.01"]).cells}
    assert key == plan.references[0].key
    run(trained, results=tmp_path, workers=0, filters=["estimator=reparam,iwae"])
    found, wanted = variances(tmp_path), variances(alone)
    for lr in ("lr=0.1", "lr=0.01"):
        for estimator in ("reparam", "iwae[k=2]"):
            assert found[lr, estimator].index.tolist() == [0, 2, 5, 26]
            for step in (0, 2, 26):
                assert found[lr, estimator, step] == wanted["", estimator, step]
    assert wanted["", "reparam", 26] != wanted["", "reparam", 0]


def test_other_checkpoints_are_another_reference(alone: Path) -> None:
    asked = {"reference": {"steps": 26}}
    same = make_plan(grid({**asked, "checkpoints": [8, 2]}), results=alone)
    assert (same.count("done"), same.references) == (2, ())
    for other in ({**asked, "checkpoints": 5}, {"checkpoints": 4, "reference": {"steps": 27}}):
        assert len(make_plan(grid(other), results=alone).references) == 1


def targeted(target: str, **more: Any) -> dict[str, Any]:
    encoders = [{"bernoulli": {"latent": 3, "hidden": [4]}}, {"gaussian": {"latent": 2, "hidden": [4]}}]
    gradients = {"checkpoints": 2, "reference": {"steps": 5}, "draws": 60, "target": target, **more}
    return grid(
        gradients,
        encoders=encoders,
        priors=["bernoulli", "standard-normal"],
        estimators=["rloo[k=2]", "vimco[k=2]"],
    )


def test_bias_and_error_to_a_target(tmp_path: Path) -> None:
    """Exact where there is an oracle, else from draws; the reason where there is neither."""
    for target in ("bound", "vimco[k=2]"):
        run(targeted(target), results=tmp_path / target[:5], workers=0)
    own, vimco = (vbench.load(tmp_path / name / "shared") for name in ("bound", "vimco"))
    cells = vbench.load(tmp_path / "bound" / "shared", "cells").set_index(["encoder", "estimator"])
    missed = cells["skipped_measures"].dropna()
    assert cells.loc[cells["status"] == "done", "measure.gradients.target"].unique().tolist() == ["bound"]
    gaussian = missed[missed.index.get_level_values("encoder").str.startswith("gaussian") & (missed != "")]
    assert gaussian.str.contains("gradient target bound: no exact gradient: ").all()
    assert len(gaussian) == 2
    bias = own.query("metric == 'gradient_bias_squared' and part == 'encoder'")
    assert sorted(set(bias["step"])) == [0, 5]
    assert (bias["value"].abs() < 5 * bias["std_error"]).all()
    assert set(bias["encoder"]) == {"bernoulli[latent=3,hidden=[4]]"}
    shared = vimco.query("metric == 'gradient_mse' and part == 'all' and step == 0").set_index(["encoder", "estimator"])
    assert len(shared) == 4
    assert (shared["value"] > 0).all()
    words = {}
    for name in ("bound", "vimco"):
        table = vbench.compare(tmp_path / name / "shared", "gradient_mse", "rloo[k=2]", step=0)
        rows = table[(table["estimator"] == "vimco[k=2]") & table["encoder"].str.startswith("bernoulli")]
        words[name] = rows["verdict"].item()
    assert words["bound"] == "other estimand", "each is held against its own"
    assert words["vimco"] in ("lower", "higher", "not distinguished", "lower, within 10%", "higher, within 10%")


def test_bits_are_told_apart_where_they_are_drawn(tmp_path: Path) -> None:
    bits = grid(
        {"binarization": True, "posterior": True, "layers": True, "batches": 3},
        datasets=["digits[binarization=dynamic]", "bernoulli-bars"],
        estimators=["reparam"],
    )
    run(bits, results=tmp_path, workers=0)
    records = vbench.load(tmp_path / "shared", columns=["binarization", "skipped_measures"])
    found = records[records["metric"] == "gradient_variance_binarization"]
    assert set(found["binarization"]) == {"dynamic"}
    assert (found.query("part == 'decoder'")["value"] > 0).all()
    assert set(records.loc[records["part"] == "posterior", "metric"]) > {"gradient_variance", "gradient_snr"}
    layers = records[records["part"].str.contains(".", regex=False) & (records["metric"] == "gradient_variance")]
    assert set(layers["part"]) == {f"{part}.net.{place}" for part in ("encoder", "decoder") for place in (0, 2)}
    reasons = set(records.loc[records["binarization"] != "dynamic", "skipped_measures"])
    assert reasons == {"gradient_variance_binarization: binarization is none, no bits are drawn"}


def test_what_was_timed_beside_others_is_run_again_alone(tmp_path: Path) -> None:
    small = grid({"draws": 2})
    run(small, results=tmp_path, workers=2)
    assert make_plan(small, results=tmp_path).count("run") == 0
    plan = make_plan(small, results=tmp_path, exclusive=True)
    assert {planned.reason for planned in plan.cells} == {"was timed beside other cells"}
    assert plan.references == ()
    result = run(small, results=tmp_path, workers=2, exclusive=True)
    assert result.computed == 2
    assert set(vbench.load(tmp_path / "shared", "cells")["timing"]) == {"exclusive"}
    assert make_plan(small, results=tmp_path, exclusive=True).count("run") == 0
