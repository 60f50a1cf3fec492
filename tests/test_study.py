"""A grid from the file to the table: what is run, what is kept, what is skipped, and what becomes of failures."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import vbench
from vbench.planning import make_plan
from vbench.records import Store
from vbench.study import run

GRID: dict[str, Any] = {
    "name": "small",
    "datasets": ["bernoulli-bars"],
    "encoders": [{"gaussian": {"latent": 3, "hidden": [8]}}, {"bernoulli": {"latent": 4, "hidden": [8]}}],
    "decoders": [{"bernoulli": {"hidden": [8]}}],
    "priors": ["standard-normal", "bernoulli"],
    "estimators": ["reparam", "nvil", {"rloo": {"k": 2}}],
    "seeds": 2,
    "train": {"steps": 40, "batch": 16},
    "measure": {
        "every": 20,
        "data": 60,
        "samples": 4,
        "gradients": {"draws": 8, "batches": 2, "at": "shared", "warmup": 5},
        "log_likelihood": {"k": 10},
    },
}


def grid(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy(GRID) | changes


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("results")
    run(grid(), results=root, workers=0)
    return root


@pytest.fixture(scope="module")
def records(study: Path) -> pd.DataFrame:
    return vbench.load(study / "small")


@pytest.fixture(scope="module")
def cells(study: Path) -> pd.DataFrame:
    return vbench.load(study / "small", "cells")


def asked(**train: Any) -> dict[str, str]:
    """Reasons of a plan by estimator, with these settings."""
    only = {"encoders": GRID["encoders"][:1], "priors": ["standard-normal"], "estimators": ["reparam", "stl"]}
    plan = make_plan(grid(**only, train=GRID["train"] | train, measure={}), results="nowhere")
    return {planned.cell.estimator.name: planned.reason for planned in plan.cells if planned.action == "skip"}


def test_a_plan_skips_what_training_settings_ask_and_no_part_offers() -> None:
    assert asked() == asked(inner={"part": "encoder"}) == asked(inner={"part": "decoder"}) == {}
    natural, prior = asked(optimizer="natural-gradient"), asked(inner={"part": "prior"})
    assert natural.keys() == prior.keys() == {"reparam", "stl"}
    assert "natural-gradient needs an encoder that tells the Fisher information" in natural["stl"]
    assert "the prior has nothing to train" in prior["stl"]


def test_a_reference_run_that_its_settings_refuse_is_none(tmp_path: Path) -> None:
    """Its cells say that there is no reference, and train."""
    gradients = GRID["measure"]["gradients"]
    for optimizer, references in ("adam", 1), ("natural-gradient", 0):
        measure = {"gradients": gradients | {"reference": {"steps": 40, "optimizer": optimizer}}}
        only = {"encoders": GRID["encoders"][:1], "priors": ["standard-normal"], "estimators": ["reparam"], "seeds": 1}
        plan = make_plan(grid(**only, measure=measure), results=tmp_path)
        assert [planned.action for planned in plan.cells] == ["run"]
        assert len(plan.references) == references


def test_a_plan_says_what_is_wrong_with_data_that_cannot_be_read(tmp_path: Path) -> None:
    plan = make_plan(grid(datasets=["npz[path=absent.npz]"]), results=tmp_path)
    (reason,) = {planned.reason for planned in plan.cells}
    assert {planned.action for planned in plan.cells} == {"run"}
    assert reason.startswith("without its data, it will fail: ")
    assert "absent.npz" in reason


def test_every_cell_has_a_row_with_a_status(cells: pd.DataFrame) -> None:
    assert len(cells) == 2 * 2 * 3 * 2
    assert cells["status"].value_counts().to_dict() == {"skipped": 14, "done": 10}
    assert cells["cell"].is_unique


def test_a_skip_says_what_is_missing(cells: pd.DataFrame) -> None:
    skipped = cells[cells["status"] == "skipped"].set_index(["encoder", "prior", "estimator"]).sort_index()
    encoder = "bernoulli[latent=4,hidden=[8]]"
    assert "needs pathwise" in skipped.loc[(encoder, "bernoulli", "reparam"), "reason"].iloc[0]
    assert "needs real-latent" in skipped.loc[(encoder, "standard-normal", "reparam"), "reason"].iloc[0]


def test_the_table_is_tidy(records: pd.DataFrame) -> None:
    wanted = "study cell dataset encoder decoder prior estimator seed step split metric part value std_error n unit"
    assert set(wanted.split()) <= set(records.columns)
    assert not records.duplicated(["cell", "step", "split", "metric", "part"]).any()
    assert records["value"].map(math.isfinite).mean() > 0.9


@pytest.mark.parametrize(
    ("metric", "split", "steps"),
    [
        ("bound", "train", {20, 40}),
        ("elbo", "valid", {20, 40}),
        ("elbo", "test", {40}),
        ("rate", "test", {40}),
        ("distortion", "test", {40}),
        ("active_units", "test", {40}),
        ("log_likelihood", "test", {40}),
        ("gradient_variance", "train", {0, 20, 40}),
        ("gradient_snr", "train", {0, 20, 40}),
        ("examples_per_second", "train", {40}),
        ("seconds_per_step", "train", {40}),
        ("peak_memory", "train", {40}),
    ],
)
def test_what_is_measured_and_when(records: pd.DataFrame, metric: str, split: str, steps: set[int]) -> None:
    found = records[(records["metric"] == metric) & (records["split"] == split)]
    assert found.groupby("cell", observed=True)["step"].agg(set).tolist() == [steps] * 10


def test_every_figure_of_the_bound_is_consistent(records: pd.DataFrame) -> None:
    test = records[(records["split"] == "test")].pivot_table(
        index="cell", columns="metric", values="value", observed=True
    )
    assert (test["elbo"] + test["rate"] + test["distortion"]).abs().max() < 1e-6
    assert (test["log_likelihood"] >= test["elbo"] - 0.2).all()


def test_variance_is_measured_at_the_same_parameters(records: pd.DataFrame) -> None:
    """The decoder's gradient by reparam and by nvil is the same estimator: at shared parameters it has one variance."""
    chosen = records.query("metric == 'gradient_variance' and part == 'decoder' and step == 0 and seed == 0")
    gaussian = chosen[chosen["encoder"].str.startswith("gaussian")].set_index("estimator")["value"]
    assert gaussian["nvil"] == pytest.approx(gaussian["reparam"], rel=1e-3)
    assert gaussian["rloo[k=2]"] < gaussian["nvil"]


def test_running_again_computes_nothing(study: Path) -> None:
    files = sorted((study / "small" / "records").rglob("*.parquet"))
    again = run(grid(), results=study, workers=0)
    assert again.computed == 0
    assert again.counts == {"done": 10, "skipped": 14}
    assert sorted((study / "small" / "records").rglob("*.parquet")) == files


def test_a_grown_grid_computes_only_what_is_new(study: Path, tmp_path: Path) -> None:
    plan = make_plan(grid(seeds=3), results=study)
    assert (plan.count("run"), plan.count("done")) == (5, 10)
    assert {planned.cell.seed for planned in plan.cells if planned.action == "run"} == {2}
    assert len(plan.references) == 2


def test_order_and_spelling_of_a_grid_change_nothing(study: Path) -> None:
    shuffled = grid(estimators=["rloo[k=2]", "nvil[k=1]", "reparam"], priors=["bernoulli", "standard-normal"])
    assert make_plan(shuffled, results=study).count("run") == 0


def test_a_cell_does_not_depend_on_what_ran_beside_it(study: Path, tmp_path: Path, records: pd.DataFrame) -> None:
    run(grid(seeds=[1], estimators=["rloo[k=2]"]), results=tmp_path, workers=0)
    alone = vbench.load(tmp_path / "small")
    timing = ["examples_per_second", "seconds_per_step", "peak_memory", "work_normalized_variance"]
    keys = ["cell", "step", "split", "metric", "part"]
    columns = [*keys, "value", "std_error", "n"]
    alone = alone[~alone["metric"].isin(timing)][columns].sort_values(keys, ignore_index=True)
    beside = records[records["cell"].isin(alone["cell"]) & ~records["metric"].isin(timing)][columns]
    pd.testing.assert_frame_equal(
        alone,
        beside.sort_values(keys, ignore_index=True),
        check_exact=True,
        check_categorical=False,
        check_dtype=False,
    )


def test_changed_code_makes_results_stale(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vbench.provenance.code_digest", lambda: "another")
    plan = make_plan(grid(), results=study)
    assert plan.count("run") == 10
    assert {p.reason for p in plan.cells if p.action == "run"} == {"stale: vbench's own code has changed"}
    kept = make_plan(grid(), results=study, keep_stale=True)
    assert kept.count("done") == 10
    assert all("stale, kept" in p.reason for p in kept.cells if p.action == "done")


def test_divergence_is_a_status_and_keeps_what_was_measured(tmp_path: Path) -> None:
    wild = grid(
        encoders=["gaussian[latent=3,hidden=[8]]"],
        priors=["standard-normal"],
        estimators=["reparam"],
        seeds=1,
        train={"steps": 200, "batch": 16, "optimizer": "sgd", "lr": 1e6},
        measure={"every": 1, "data": 20},
    )
    result = run(wild, results=tmp_path, workers=0)
    (outcome,) = result.outcomes.values()
    assert outcome.status == "diverged"
    assert outcome.reason.startswith("step ")
    assert result.failed == [outcome]
    assert run(wild, results=tmp_path, workers=0).computed == 0, "a divergence is a result, not computed twice"


def test_a_failure_is_a_row_and_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = grid(encoders=["gaussian[latent=3]"], priors=["standard-normal"], estimators=["reparam"], seeds=1)
    with monkeypatch.context() as patch:
        patch.setattr("vbench.estimators.pathwise.Pathwise.forward", lambda *a: 1 / 0)
        result = run(one, results=tmp_path, workers=0)
    (outcome,) = result.outcomes.values()
    assert outcome.status == "failed"
    assert outcome.reason.startswith("ZeroDivisionError: division by zero")
    assert "Traceback" in outcome.traceback
    assert vbench.load(tmp_path / "small").empty
    (planned,) = make_plan(one, results=tmp_path).cells
    assert planned.action == "run"
    assert planned.reason.startswith("was failed: ZeroDivisionError")
    assert run(one, results=tmp_path, workers=0).counts == {"done": 1}
    assert len(Store(tmp_path / "small").outcomes()) == 1


def test_missing_data_fail_their_own_cells_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vbench.assemble import _dataset
    from vbench.builtin.datasets.files import DataError

    def gone(*args: Any, **kwargs: Any) -> None:
        raise DataError("put frey_rawface.mat into $VBENCH_DATA/frey")

    monkeypatch.setattr("vbench.builtin.datasets.frey.contents", gone)
    _dataset.cache_clear()
    two = grid(
        datasets=["frey", "bernoulli-bars"],
        encoders=["gaussian[latent=3,hidden=[8]]"],
        decoders=["gaussian[hidden=[8]]"],
        priors=["standard-normal"],
        estimators=["reparam"],
        seeds=1,
        measure={},
    )
    result = run(two, results=tmp_path, workers=0)
    statuses = {outcome.labels["dataset"]: outcome for outcome in result.outcomes.values()}
    assert statuses["bernoulli-bars"].status == "done"
    assert statuses["frey"].status == "failed"
    assert "put frey_rawface.mat into" in statuses["frey"].reason


def test_workers_give_the_same_numbers(study: Path, tmp_path: Path, records: pd.DataFrame) -> None:
    """The same cells in processes of their own: equal to the last bit."""
    run(grid(seeds=[0], estimators=["rloo[k=2]", "reparam"]), results=tmp_path, workers=2)
    theirs = vbench.load(tmp_path / "small").query("metric == 'elbo'").set_index(["cell", "step", "split"])["value"]
    ours = records.query("metric == 'elbo'").set_index(["cell", "step", "split"])["value"]
    assert len(theirs) == 3 * 3
    assert ours.loc[list(theirs.index)].tolist() == theirs.tolist()
    done = [vbench.load(root / "small", "cells").query("status == 'done'")["timing"] for root in (study, tmp_path)]
    assert [set(timing) for timing in done] == [{"exclusive"}, {"shared"}]


def test_a_timeout_is_a_row(tmp_path: Path) -> None:
    slow = grid(
        encoders=["gaussian[latent=3]"],
        priors=["standard-normal"],
        estimators=["reparam"],
        seeds=1,
        train={"steps": 10_000_000},
        measure={},
    )
    result = run(slow, results=tmp_path, workers=1, timeout=3)
    (outcome,) = result.outcomes.values()
    assert outcome.status == "timeout"


def test_own_gradients_follow_the_cells_training(tmp_path: Path) -> None:
    own = grid(
        encoders=["gaussian[latent=3,hidden=[8]]"],
        priors=["standard-normal"],
        estimators=["reparam"],
        seeds=1,
        measure={"every": 20, "gradients": {"draws": 8, "at": "own"}, "data": 20},
    )
    run(own, results=tmp_path, workers=0)
    found = vbench.load(tmp_path / "small").query("metric == 'gradient_variance' and part == 'encoder'")
    assert found["step"].tolist() == [20, 40]
    assert not (tmp_path / "small" / "references").exists()


def test_train_sweep_is_an_axis(tmp_path: Path) -> None:
    swept = grid(
        encoders=["gaussian[latent=3,hidden=[8]]"],
        priors=["standard-normal"],
        estimators=["reparam"],
        seeds=1,
        train={"steps": 20, "sweep": {"lr": [1e-3, 1e-2]}},
        measure={"data": 20},
    )
    run(swept, results=tmp_path, workers=0)
    joined = vbench.load(tmp_path / "small", columns=["train.lr"])
    assert sorted(joined["train.lr"].unique()) == [1e-3, 1e-2]
    assert set(joined["train"]) == {"lr=0.001", "lr=0.01"}


def test_a_reference_run_that_fails_costs_the_gradients_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = grid(encoders=["gaussian[latent=3]"], priors=["standard-normal"], estimators=["rloo"], seeds=1)
    with monkeypatch.context() as patch:
        patch.setattr("vbench.estimators.pathwise.Pathwise.forward", lambda *a: 1 / 0)
        result = run(one, results=tmp_path, workers=0)
    assert result.counts == {"done": 1}
    cells = vbench.load(tmp_path / "small", "cells")
    assert "no reference run left checkpoints at [20, 40]" in cells["skipped_measures"].iloc[0]
    assert set(vbench.load(tmp_path / "small").query("metric == 'gradient_variance'")["step"]) == {0}
    assert Store(tmp_path / "small" / "references").cells()["status"].tolist() == ["failed"]


def test_a_named_reference_is_used(tmp_path: Path) -> None:
    named = grid(encoders=["gaussian[latent=3]"], priors=["standard-normal"], estimators=["reparam"], seeds=1)
    named["measure"]["gradients"]["reference"] = "stl"
    run(named, results=tmp_path, workers=0)
    assert Store(tmp_path / "small" / "references").cells()["estimator.name"].tolist() == ["stl"]


def test_shards_are_parts_of_the_whole(tmp_path: Path) -> None:
    whole = make_plan(grid(), results=tmp_path)
    parts = [whole.part(i, 3) for i in (1, 2, 3)]
    keys = [planned.key for part in parts for planned in part.cells]
    assert sorted(keys) == sorted(planned.key for planned in whole.cells)
    for part in parts:
        waited_for = {planned.reference for planned in part.cells if planned.reference}
        assert waited_for == {reference.key for reference in part.references}
    other = make_plan(grid(estimators=["nvil", "reparam"], seeds=[1]), results=tmp_path)
    mine = {planned.key for planned in parts[0].cells}
    assert {p.key for p in other.part(1, 3).cells} == {p.key for p in other.cells} & mine


def test_shards_together_are_the_study(study: Path, tmp_path: Path) -> None:
    small = grid(encoders=GRID["encoders"][:1], priors=["standard-normal"], seeds=[0])
    for part in (1, 2):
        result = run(small, results=tmp_path, workers=0, shard=(part, 2))
        assert not result.failed
    assert make_plan(small, results=tmp_path).count("run") == 0
    both = [vbench.load(root / "small").query("metric == 'elbo'") for root in (tmp_path, study)]
    mine, whole = (frame.set_index(["cell", "step", "split"])["value"] for frame in both)
    assert mine.to_dict() == whole[whole.index.isin(mine.index)].to_dict()


def test_its_row_says_where_and_why_training_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {"encoders": ["gaussian[latent=2,hidden=[4]]"], "priors": ["standard-normal"], "estimators": ["reparam"]}
    given = grid(**parts, seeds=1, measure={"every": 7, "data": 20, "samples": 2})
    assert run(given | {"train": {"batch": 16, "budget": {"seconds": 0.05}}}, results=tmp_path, workers=0).computed == 1
    (cell,) = vbench.load(tmp_path / "small", "cells").to_dict("records")
    assert cell["ended_by"] == "seconds (another run may end at another step)"
    assert cell["ended_after"] == cell["backward_passes"] > 0
    records = vbench.load(tmp_path / "small")
    assert records.loc[records["split"] == "test", "step"].unique().tolist() == [cell["ended_after"]]
    assert records.loc[records["metric"] == "seconds_per_step", "n"].tolist() == [cell["ended_after"]]
    monkeypatch.setattr("vbench.runner.missing", lambda *parts: {"elbo": "needs what is not offered"})
    done = run(given | {"train": {"steps": 7, "patience": 2}}, results=tmp_path, workers=0)
    (outcome,) = done.outcomes.values()
    wanted = "train.patience looks at the validation ELBO, which needs what is not offered"
    assert (outcome.status, outcome.reason) == ("skipped", wanted)
