"""Pairs, groups, estimands and failures: what is compared with what, and what is refused."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import vbench
from tests.report.studies import ELBO, IWAE, MODEL, Figure, commit, row
from vbench.report.comparison import COLUMNS, ComparisonError, compare, paired_ratios
from vbench.report.estimand import estimand
from vbench.report.evidence import evidence
from vbench.report.numbers import numbers

VARIANCE = "gradient_variance"


def fill(folder: Path, **values: list[float]) -> None:
    """One cell for each figure, seeds 0, 1, ...; the standard error is 5%."""
    for name, figures in values.items():
        for seed, value in enumerate(figures):
            commit(folder, name, seed, Figure(value, 0.05 * value))


def test_one_seed_by_hand(tmp_path: Path) -> None:
    commit(tmp_path, "rloo[k=4]", 0, Figure(8.0, 0.4, n=400), k=4, seconds=0.03)
    commit(tmp_path, "reparam", 0, Figure(2.0, 0.06, n=200), seconds=0.01)
    table = compare(tmp_path, VARIANCE, "rloo")
    assert list(table) == list(COLUMNS)
    found = row(table, "reparam")
    error = math.hypot(0.03, 0.05)
    df = error**4 / (0.03**4 / 199 + 0.05**4 / 399)
    half = stats.t.ppf(0.975, df) * error
    assert found[["estimate", "low", "high"]].to_list() == pytest.approx(
        [0.25, 0.25 * math.exp(-half), 0.25 * math.exp(half)]
    )
    assert found["p"] == pytest.approx(2 * stats.t.sf(math.log(4) / error, df))
    assert found[["basis", "seeds", "verdict"]].to_list() == ["draws", 1, "lower"]
    assert found[["evaluations", "seconds", "n_ok", "n_total"]].to_list() == pytest.approx([1, 0.01, 1, 1])
    base = row(table, "rloo[k=4]")
    assert base[["estimate", "verdict", "evaluations"]].to_list() == [1.0, "baseline", 4.0]
    assert math.isnan(base["p"])


def test_seeds_by_hand(tmp_path: Path) -> None:
    a, b = [2.0, 9.0, 40.0], [1.0, 4.0, 22.0]
    fill(tmp_path, reparam=a, reinforce=b)
    found = row(compare(tmp_path, VARIANCE, "reinforce"), "reparam")
    d = np.log(a) - np.log(b)
    reference = stats.ttest_1samp(d, 0)
    assert found["p"] == pytest.approx(reference.pvalue)
    interval = reference.confidence_interval(0.95)
    assert (found["low"], found["high"]) == pytest.approx((math.exp(interval.low), math.exp(interval.high)))
    assert found["estimate"] == pytest.approx(stats.gmean(a) / stats.gmean(b))
    assert found["value"] / found["baseline_value"] == pytest.approx(found["estimate"])
    assert found["basis"] == "seeds"
    assert found["mc_std_error"] == pytest.approx(0.05 * math.sqrt(2) / math.sqrt(3))
    assert found["between_sd"] == pytest.approx(math.sqrt(d.var(ddof=1) - 0.005))


def test_pairs_are_by_seed_whatever_the_order(tmp_path: Path) -> None:
    checkpoint = [1.0, 100.0, 1e4, 1e6]  # one seed's parameters are unlike another's
    for seed in (2, 0, 3, 1):
        commit(tmp_path, "reparam", seed, Figure(3.0 * checkpoint[seed] * (1 + 0.01 * seed)))
    for seed in (3, 1, 2, 0):
        commit(tmp_path, "reinforce", seed, Figure(checkpoint[seed]))
    found = row(compare(tmp_path, VARIANCE, "reinforce"), "reparam")
    assert found["high"] / found["low"] < 1.1
    assert found["verdict"] == "higher"


def test_pairing_helps_only_where_seeds_share_something(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shared, noise = rng.normal(0, 2, 12), rng.normal(0, 0.1, (2, 12))
    apart = rng.normal(0, 2, (2, 12))
    for name, logs in (("shared", shared + noise), ("own", apart + noise)):
        fill(tmp_path / name, reparam=list(np.exp(logs[0])), reinforce=list(np.exp(logs[1])))
        error = row(compare(tmp_path / name, VARIANCE, "reinforce"), "reparam")["std_error"]
        unpaired = math.sqrt(logs[0].var(ddof=1) / 12 + logs[1].var(ddof=1) / 12)
        assert (error < 0.1 * unpaired) == (name == "shared")
        if name == "own":
            assert 0.6 < error / unpaired < 1.4


def test_equal_figures_are_equal_and_rounding_is_no_effect(tmp_path: Path) -> None:
    values = [1.4, 1.5, 1.45]
    fill(tmp_path, reparam=values, reinforce=[v * (1 + 2e-7) for v in values], nvil=[v * 1.05 for v in values])
    table = compare(tmp_path, VARIANCE, "reparam")
    assert row(table, "reinforce")[["estimate", "low", "high", "p", "verdict"]].to_list() == [
        1.0,
        1.0,
        1.0,
        1.0,
        "equal within 10%",
    ]
    assert row(table, "nvil")["verdict"] == "higher, within 10%"
    assert row(compare(tmp_path, VARIANCE, "reparam", margin=0.02), "nvil")["verdict"] == "higher"


def test_layers_are_compared_where_they_are_asked_for(tmp_path: Path) -> None:
    for name, factor in (("reparam", 1.0), ("reinforce", 3.0)):
        layers = {"all": 1.0, "encoder": 1.0, "encoder.net.2": 0.25, "encoder.net.0": 0.75 / factor}
        commit(tmp_path, name, 0, *(Figure(factor * v, 0.01, part=part) for part, v in layers.items()))
    table = compare(tmp_path, VARIANCE, "reparam", by="layer")
    assert list(dict.fromkeys(table["part"])) == ["encoder.net.2", "encoder.net.0"]
    ratios = [row(table, "reinforce", part=layer)["estimate"] for layer in ("encoder.net.2", "encoder.net.0")]
    assert ratios == pytest.approx([3, 1])
    assert set(compare(tmp_path, VARIANCE, "reparam", by="part")["part"]) == {"all", "encoder"}
    assert set(compare(tmp_path, VARIANCE, "reparam")["part"]) == {"all"}
    assert set(compare(tmp_path, VARIANCE, "reparam", part="encoder.net.0")["part"]) == {"encoder.net.0"}


def test_no_difference_shown_is_not_equality(tmp_path: Path) -> None:
    fill(tmp_path, reparam=[1.0, 2.0, 3.0], reinforce=[1.5, 1.5, 3.5])
    assert row(compare(tmp_path, VARIANCE, "reparam"), "reinforce")["verdict"] == "not distinguished"


def test_holm_is_over_all_that_is_shown(tmp_path: Path) -> None:
    d = np.array([0.30, 0.10, 0.22])
    for name, logs in (("reparam", 0 * d), ("nvil", d), ("reinforce", 0.4 - d)):
        for seed, x in enumerate(np.exp(logs)):
            commit(tmp_path, name, seed, *(Figure(x, part=part) for part in ("all", "encoder", "decoder")))
    alone = compare(tmp_path, VARIANCE, "reparam")
    together = compare(tmp_path, VARIANCE, "reparam", by="part")
    one = stats.ttest_1samp(d, 0).pvalue
    other = stats.ttest_1samp(0.4 - d, 0).pvalue
    assert one < other
    assert row(alone, "nvil")["p_holm"] == pytest.approx(2 * one)
    assert row(together, "nvil", part="encoder")["p_holm"] == pytest.approx(6 * one)
    assert set(together["part"]) == {"all", "encoder", "decoder"}
    assert len(together) == 9


def test_other_estimands_are_refused_and_show_no_figure(tmp_path: Path) -> None:
    commit(tmp_path, "rloo[k=4]", 0, Figure(2.0, 0.1), Figure(0.5, 0.01, "gradient_snr"), k=4)
    commit(tmp_path, "rloo[k=2]", 0, Figure(4.0, 0.1), Figure(0.4, 0.01, "gradient_snr"), k=2)
    commit(tmp_path, "iwae[k=5]", 0, Figure(1.0, 0.1), Figure(0.3, 0.01, "gradient_snr"), k=5, bound=IWAE)
    commit(tmp_path, "iwae[k=1]", 0, Figure(8.0, 0.1), Figure(0.3, 0.01, "gradient_snr"), k=1, bound=IWAE)
    commit(tmp_path, "mystery", 0, Figure(1.0, 0.1), Figure(0.3, 0.01, "gradient_snr"), bound="")
    table = compare(tmp_path, VARIANCE, "rloo[k=4]")
    verdicts = dict(zip(table["estimator"], table["verdict"], strict=True))
    assert verdicts == {
        "rloo[k=4]": "baseline",
        "rloo[k=2]": "higher",  # K averages the ELBO
        "iwae[k=1]": "higher",  # and one sample of IWAE is the ELBO
        "iwae[k=5]": "other estimand",
        "mystery": "other estimand",
    }
    refused = table[table["verdict"] == "other estimand"]
    assert refused[["value", "baseline_value", "estimate", "low", "p"]].isna().all(axis=None)
    across = compare(tmp_path, "gradient_snr", "rloo[k=4]")
    assert set(across["verdict"]) == {"baseline", "lower"}
    assert row(across, "iwae[k=5]")["estimate"] == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("bound", "k", "name"),
    [
        (ELBO, 4, "ELBO"),
        (IWAE, 5, "IWAE, K=5"),
        (IWAE, 1, "ELBO"),
        ("Renyi(alpha=0.5, smooth=True)", 2, "Renyi(alpha=0.5), K=2"),
        ("Renyi(alpha=0.5, smooth=True)", 1, "ELBO"),
        ("Stranger(kind='none', beta=2)", 3, "Stranger(beta=2), K=3"),
        ("<pack.Stranger object at 0x7f3a>", 1, "<pack.Stranger>, K=1"),
        ("Beta(beta=4.0, kind='lower', linear=True)", 3, "Beta(beta=4.0)"),
        ("", 3, ""),
    ],
)
def test_estimands(bound: str, k: int, name: str) -> None:
    assert estimand(bound, k) == name


def test_not_resolved_is_said_and_no_seed_is_left_out(tmp_path: Path) -> None:
    metric = "gradient_relative_variance"
    for name, values in (("reparam", [1.0, 1.1, 0.9]), ("reinforce", [50.0, math.nan, 60.0])):
        for seed, value in enumerate(values):
            commit(tmp_path, name, seed, Figure(value, metric=metric))
    found = row(compare(tmp_path, metric, "reparam"), "reinforce")
    assert found["verdict"] == "not resolved"
    assert math.isnan(found["estimate"])
    assert math.isnan(found["value"])
    assert row(compare(tmp_path, metric, "reinforce"), "reparam")["verdict"] == "not resolved"


def test_a_variance_of_zero_has_no_ratio(tmp_path: Path) -> None:
    fill(tmp_path, reparam=[1.0, 1.0], analytic=[0.0, 0.0])
    assert row(compare(tmp_path, VARIANCE, "reparam"), "analytic")["verdict"] == "a value is 0 or infinite"
    assert row(compare(tmp_path, VARIANCE, "analytic"), "reparam")["verdict"] == "a value is 0 or infinite"


def test_failures_are_counted_listed_and_flagged(tmp_path: Path) -> None:
    fill(tmp_path, reparam=[1.0, 1.1, 1.2], reinforce=[5.0, 5.1], nvil=[3.0, 3.1, 3.3])
    commit(tmp_path, "reinforce", 2, Figure(9e9), status="diverged", reason="step 77; the objective is nan")
    commit(tmp_path, "dreg", 0, status="failed", reason="boom", bound="")
    commit(tmp_path, "stl", 0, status="skipped", reason="does not fit")
    table = compare(tmp_path, VARIANCE, "reparam")
    assert "stl" not in set(table["estimator"])
    found = row(table, "reinforce")
    assert found[["n_ok", "n_total", "seeds", "survivors"]].to_list() == [2, 3, 2, True]
    assert found["remarks"] == "seed 2 diverged: step 77; the objective is nan"
    assert found["estimate"] == pytest.approx(math.sqrt(5.0 * 5.1 / 1.0 / 1.1))  # what a diverged cell left is not read
    assert not row(table, "nvil")["survivors"]
    assert row(table, "dreg")[["verdict", "n_ok", "n_total"]].to_list() == ["failed", 0, 1]
    # a baseline that lost a seed flags everyone
    other = compare(tmp_path, VARIANCE, "reinforce")
    assert row(other, "nvil")[["seeds", "survivors"]].to_list() == [2, True]
    assert set(compare(tmp_path, VARIANCE, "dreg")["verdict"]) == {"failed", "no baseline"}
    # a seed that only one of them was asked for is no loss
    commit(tmp_path, "reparam", 3, Figure(1.3))
    for one, other in (("reparam", "nvil"), ("nvil", "reparam")):
        assert row(compare(tmp_path, VARIANCE, one), other)[["seeds", "survivors"]].to_list() == [3, False]


def test_groups_never_mix(tmp_path: Path) -> None:
    for encoder, scale in (("gaussian[latent=2]", 1.0), ("gaussian[latent=8]", 100.0)):
        commit(tmp_path, "reinforce", 0, Figure(3 * scale, scale), labels={"encoder": encoder})
        if scale == 1.0:
            commit(tmp_path, "reparam", 0, Figure(scale, scale), labels={"encoder": encoder})
    table = compare(tmp_path, VARIANCE, "reparam")
    assert row(table, "reinforce", encoder="gaussian[latent=2]")["estimate"] == pytest.approx(3)
    assert row(table, "reinforce", encoder="gaussian[latent=8]")["verdict"] == "no baseline"


def test_parts_that_a_model_has_not_are_no_rows(tmp_path: Path) -> None:
    for name in ("reparam", "reinforce"):
        commit(tmp_path, name, 0, Figure(1.0, 0.1), Figure(1.0, 0.1, part="prior"), labels={"prior": "learned"})
        commit(tmp_path, name, 0, Figure(1.0, 0.1))
    commit(tmp_path, "reparam", 0, status="failed", labels={"prior": "lost"})
    table = compare(tmp_path, VARIANCE, "reparam", by="part")
    pairs = set(zip(table["prior"], table["part"], strict=True))
    assert pairs == {
        ("learned", "all"),
        ("learned", "prior"),
        ("standard-normal", "all"),
        ("lost", "all"),
        ("lost", "prior"),
    }
    assert set(table.loc[table["prior"] == "lost", "verdict"]) == {"failed"}  # a whole group that failed is still told
    assert table["step"].dtype == "Int64"


def test_settings_that_a_grid_no_longer_has_are_a_group_of_their_own(tmp_path: Path) -> None:
    for lr, value in ((1e-3, 1.0), (1e-2, 50.0)):
        for name, factor in (("reparam", 1.0), ("reinforce", 4.0)):
            commit(tmp_path, name, 0, Figure(value * factor, value), spec={"train": {"lr": lr}})
    table = compare(tmp_path, VARIANCE, "reparam")
    assert set(table["settings"]) == {"train.lr 0.001", "train.lr 0.01"}
    assert table.loc[table["estimator"] == "reinforce", "estimate"].to_list() == pytest.approx([4.0, 4.0])


def test_one_component_spelt_in_two_ways_is_one_group(tmp_path: Path) -> None:
    spec = {"encoder": {"name": "gaussian", "parameters": {"latent": 16}}}
    commit(tmp_path, "reparam", 0, Figure(1.0, 0.1), spec=spec)
    commit(tmp_path, "reinforce", 0, Figure(3.0, 0.1), spec=spec, labels={"encoder": "gaussian[latent=16]"})
    assert row(compare(tmp_path, VARIANCE, "reparam"), "reinforce")["estimate"] == pytest.approx(3)


def test_the_last_step_of_each_group_or_the_one_asked_for(tmp_path: Path) -> None:
    for name, factor in (("reparam", 1.0), ("reinforce", 2.0)):
        commit(tmp_path, name, 0, Figure(1.0, 0.1, step=50), Figure(factor, 0.1, step=100))
    assert row(compare(tmp_path, VARIANCE, "reparam"), "reinforce")[["step", "estimate"]].to_list() == [100, 2.0]
    assert row(compare(tmp_path, VARIANCE, "reparam", step=50), "reinforce")[["step", "estimate"]].to_list() == [
        50,
        1.0,
    ]


def test_equal_cost(tmp_path: Path) -> None:
    for seed in (0, 1):
        commit(tmp_path, "rloo[k=4]", seed, Figure(2.0, 0.1), k=4, seconds=0.03)
        commit(tmp_path, "reparam", seed, Figure(6.0 + seed, 0.3), k=1, seconds=0.02)
    at = {
        cost: row(compare(tmp_path, VARIANCE, "rloo", at=cost), "reparam") for cost in ("k", "evaluations", "seconds")
    }
    ratio = math.sqrt(6 * 7) / 2
    assert at["k"]["estimate"] == pytest.approx(ratio)
    assert at["evaluations"]["estimate"] == pytest.approx(ratio / 4)
    assert at["seconds"]["estimate"] == pytest.approx(ratio * 2 / 3)
    assert at["k"]["mc_std_error"] == pytest.approx(at["evaluations"]["mc_std_error"])  # a cost is no error
    work = row(compare(tmp_path, "work_normalized_variance", "rloo"), "reparam")
    assert at["seconds"]["estimate"] == pytest.approx(work["estimate"])


def test_seconds_have_no_error_but_over_seeds(tmp_path: Path) -> None:
    for name, value in (("reparam", 1.0), ("reinforce", 9.0)):
        commit(tmp_path, name, 0, Figure(value, 0.01))
    assert row(compare(tmp_path, VARIANCE, "reparam"), "reinforce")["verdict"] == "higher"
    for metric, at in ((VARIANCE, "seconds"), ("work_normalized_variance", "k")):
        found = row(compare(tmp_path, metric, "reparam", at=at), "reinforce")
        assert found[["estimate", "verdict"]].to_list() == [pytest.approx(9.0), "no error known"]


def test_seconds_compare_within_one_environment_and_say_who_ran_beside_whom(tmp_path: Path) -> None:
    def cell(estimator: str, seed: int, minute: int, cpu: str = "AVX2") -> None:
        commit(
            tmp_path,
            estimator,
            seed,
            Figure(1.0 + seed, 0.1),
            started=f"2026-01-01T10:{minute:02}:00+00:00",
            took=90.0,
            provenance={"code": "one", "environment": {"cpu": cpu}},
        )

    cell("reparam", 0, 0)
    cell("reinforce", 0, 2)
    cell("nvil", 0, 3)  # while reinforce ran on
    cell("stl", 0, 10, cpu="NEON")
    table = compare(tmp_path, VARIANCE, "reparam", at="seconds")
    beside = "timed while other cells ran"
    assert {name: beside in row(table, name)["remarks"] for name in ("reparam", "reinforce", "nvil")} == {
        "reparam": False,
        "reinforce": True,
        "nvil": True,
    }
    assert row(table, "stl")[["verdict", "settings"]].to_list() == ["no baseline", "environment.cpu NEON"]
    assert row(compare(tmp_path, VARIANCE, "reparam"), "stl")["remarks"] == ""


def test_what_is_told_of_an_estimator(tmp_path: Path) -> None:
    commit(tmp_path, "reparam", 0, Figure(1.0, 0.1))
    commit(tmp_path, "gumbel-softmax", 0, Figure(0.5, 0.1), unbiased=False, provenance={"code": "two"})
    remarks = row(compare(tmp_path, VARIANCE, "reparam"), "gumbel-softmax")["remarks"]
    assert "biased by its own account" in remarks
    assert "another version of the code" in remarks
    own = {"measure": {"gradients": {"at": "own"}}}
    for name in ("reparam", "reinforce"):
        commit(tmp_path / "own", name, 0, Figure(1.0, 0.1), spec=own)
    table = compare(tmp_path / "own", VARIANCE, "reparam")
    assert table["remarks"].str.contains("not at shared parameters").all()


def test_nats_compare_by_differences_and_sign_flips(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    level = rng.normal(-90, 5, 8)
    gains = np.array([0.5, 0.8, 0.2, 0.9, 0.4, 0.6, -0.1, 0.7])
    for seed in range(8):
        commit(tmp_path, "reparam", seed, Figure(level[seed], 0.2, "elbo", split="test"))
        commit(
            tmp_path, "iwae[k=5]", seed, Figure(level[seed] + gains[seed], 0.2, "elbo", split="test"), bound=IWAE, k=5
        )
    found = row(compare(tmp_path, "elbo", "reparam", margin=1.0), "iwae[k=5]")
    interval = stats.ttest_rel(level + gains, level).confidence_interval(0.95)
    assert found[["estimate", "low", "high"]].to_list() == pytest.approx([gains.mean(), interval.low, interval.high])
    exact = stats.permutation_test((gains,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert found["p"] == pytest.approx(exact)
    assert found["verdict"] == "higher, within 1 nats"
    assert math.isnan(found["mc_std_error"])  # an error over test data is no error of a difference on the same data


@pytest.mark.parametrize("seeds", [1, 5, 6])
def test_too_few_seeds_for_sign_flips_are_no_p(tmp_path: Path, seeds: int) -> None:
    for seed in range(seeds):
        commit(tmp_path, "reparam", seed, Figure(-90 + seed, 0.2, "elbo", split="test"))
        commit(tmp_path, "stl", seed, Figure(-80 + seed + 0.01 * seed, 0.2, "elbo", split="test"))
    found = row(compare(tmp_path, "elbo", "reparam"), "stl")
    assert found["verdict"] == {1: "no error known", 5: "too few seeds", 6: "higher"}[seeds]
    assert math.isnan(found["p"]) == (seeds < 6)


def test_held_out_splits_come_first(tmp_path: Path) -> None:
    for name in ("reparam", "stl"):
        figures = [Figure(v, 0.1, "elbo", split=s) for v, s in ((-3.0, "valid"), (-5.0, "test"))]
        commit(tmp_path, name, 0, *figures, Figure(-1.0, 0.1, "rate", part="encoder", split="valid"))
    assert set(compare(tmp_path, "elbo", "stl")["split"]) == {"test"}
    assert set(compare(tmp_path, "elbo", "stl", split="valid")["value"]) == {-3.0}
    assert set(compare(tmp_path, "rate", "stl")["part"]) == {"encoder"}  # the only part it has


MISTAKES = {
    "metric": ({"metric": "gradient_varianc"}, "no metric 'gradient_varianc'; did you mean 'gradient_variance'?"),
    "estimator": ({"baseline": "rlo"}, "no estimator 'rlo'; did you mean 'rloo[k=2]'?"),
    "ambiguous": ({"baseline": "rloo"}, "baseline 'rloo' is ambiguous: say which of rloo[k=2], rloo[k=4]"),
    "part": ({"part": "encodr"}, "no part 'encodr'; did you mean 'encoder'?"),
    "split": ({"split": "test"}, "no split 'test'"),
    "step": ({"step": 7}, "no step '7' (there is 100)"),
    "cost": ({"at": "watts"}, "no cost 'watts'"),
    "costless": ({"metric": "elbo", "at": "seconds"}, "at seconds: only gradient_variance"),
    "margin": ({"margin": 0.0}, "margin is above 0"),
    "grouping": ({"by": "moon"}, "no grouping 'moon'"),
    "layerless": ({"by": "layer"}, "no gradient_variance of layers in the records"),
}


@pytest.mark.parametrize(("asked", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_line(tmp_path: Path, asked: dict[str, object], message: str) -> None:
    for k in (2, 4):
        commit(tmp_path, f"rloo[k={k}]", 0, Figure(1.0), Figure(1.0, part="encoder"), Figure(-1.0, metric="elbo"))
    with pytest.raises(ComparisonError) as mistake:
        compare(tmp_path, **({"metric": VARIANCE, "baseline": "rloo[k=2]"} | asked))  # type: ignore[arg-type]
    assert message in str(mistake.value)
    assert len(str(mistake.value).splitlines()) == 1


def test_a_study_that_is_not_there(tmp_path: Path) -> None:
    commit(tmp_path / "quickstart", "reparam", 0, Figure(1.0))
    with pytest.raises(FileNotFoundError, match=r"did you mean .*quickstart"):
        compare(tmp_path / "quikstart", VARIANCE, "reparam")


def test_two_cells_of_one_seed_are_not_guessed_between(tmp_path: Path) -> None:
    for k in (5, 10):  # a default that changed: one label, two cells
        spec = {"estimator": {"name": "iwae", "parameters": {"k": k}}}
        commit(tmp_path, "iwae", 0, Figure(1.0), spec=spec)
    with pytest.raises(ComparisonError, match="iwae seed 0 is there twice"):
        compare(tmp_path, VARIANCE, "iwae")


def test_frames_give_what_the_folder_gives(tmp_path: Path) -> None:
    fill(tmp_path, reparam=[1.0, 2.0], reinforce=[3.0, 4.0])
    records, cells = vbench.load(tmp_path), vbench.load(tmp_path, "cells")
    assert paired_ratios(records, cells, VARIANCE, "reparam").equals(vbench.compare(tmp_path, VARIANCE, "reparam"))
    records.loc[0, "value"] = math.nan  # the frames are read, never changed
    before = records.copy()
    paired_ratios(records, cells, VARIANCE, "reparam", at="seconds")
    assert records.equals(before)


def test_no_torch(tmp_path: Path) -> None:
    fill(tmp_path, reparam=[1.0, 2.0], reinforce=[3.0, 4.0])
    code = (
        f"import sys, vbench; vbench.compare({str(tmp_path)!r}, {VARIANCE!r}, 'reparam'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def simulated(rng: np.random.Generator, truth: dict[str, float], seeds: int) -> tuple[dict[str, list[float]], ...]:
    """Variances of estimators at shared checkpoints: log truth, checkpoint, what the seed does to each, noise."""
    checkpoint = rng.normal(0, 1.5, seeds)
    values, errors = {}, {}
    for name, ratio in truth.items():
        squares = rng.lognormal(-0.5, 1.0, (seeds, 400))
        scale = ratio * np.exp(checkpoint + rng.normal(0, 0.15, seeds))
        values[name] = list(scale * squares.mean(1))
        errors[name] = list(scale * squares.std(1, ddof=1) / 20)
    return values, errors


def trials(count: int, truth: dict[str, float], seeds: int) -> list[dict[str, dict[str, float]]]:
    """The whole way from records, so often; by estimator."""
    import pandas as pd

    rng, found = np.random.default_rng(21), []
    names = [(name, seed) for name in truth for seed in range(seeds)]
    cells = pd.DataFrame(
        [{**MODEL, "estimator": n, "seed": s, "cell": f"{n}{s}", "status": "done", "reason": ""} for n, s in names]
    ).assign(bound=ELBO, k=1)
    records = cells[["cell", "estimator", "seed"]].assign(
        **{"metric": VARIANCE, "part": "all", "split": "train", "step": 1, "n": 400, "unit": "nats^2"}
    )
    for _ in range(count):
        values, errors = simulated(rng, truth, seeds)
        now = records.assign(value=[values[n][s] for n, s in names], std_error=[errors[n][s] for n, s in names])
        table = paired_ratios(now, cells, VARIANCE, next(iter(truth)))
        found.append(table.set_index("estimator").to_dict("index"))
    return found


def check_operating_characteristics(count: int) -> None:
    truth = {"base": 1.0, "same": 1.0, "alike": 1.0, "twin": 1.0, "half": 0.5, "tenfold": 10.0}
    found = trials(count, truth, seeds=5)
    three_errors = 3 * math.sqrt(0.95 * 0.05 / count)
    covered = {name: np.mean([t[name]["low"] < r < t[name]["high"] for t in found]) for name, r in truth.items()}
    del covered["base"]
    assert max(abs(share - 0.95) for share in covered.values()) < three_errors, covered
    assert 0.93 < np.mean(list(covered.values())) < 0.97, covered
    null = ("same", "alike", "twin")
    family = np.mean([any(t[n]["verdict"].startswith(("lower", "higher")) for n in null) for t in found])
    assert family < 0.05 + three_errors
    assert np.mean([t["half"]["verdict"] == "lower" for t in found]) > 0.8
    assert np.mean([t["tenfold"]["verdict"] == "higher" for t in found]) == 1
    assert not any(t[n]["verdict"].startswith("equal") for n in ("half", "tenfold") for t in found)
    if count >= 500:  # what Holm is for
        assert np.mean([any(t[n]["p"] < 0.05 for n in null) for t in found]) > 0.05 + three_errors


def test_coverage_and_family_error_from_records() -> None:
    check_operating_characteristics(16)


@pytest.mark.slow
def test_coverage_and_family_error_from_records_at_length() -> None:
    check_operating_characteristics(500)


def test_data_that_changed_are_no_pairs_and_no_more_seeds(tmp_path: Path) -> None:
    fill(tmp_path, reparam=[2.0, 9.0, 40.0], rloo=[1.0, 4.0, 22.0])
    records, cells = vbench.load(tmp_path), vbench.load(tmp_path, "cells")
    same = paired_ratios(records, cells.assign(data_digest="old"), VARIANCE, "reparam")
    assert row(same, "rloo")["verdict"] == "lower"
    moved = cells.assign(data_digest=cells["estimator"].astype("str").map({"reparam": "old", "rloo": "new"}))
    assert row(paired_ratios(records, moved, VARIANCE, "reparam"), "rloo")["verdict"] == "no baseline"
    half = cells.assign(data_digest=["old" if seed else "new" for seed in cells["seed"]])
    found = numbers(evidence((records, half)), VARIANCE, "train", last=True)
    assert sorted(found["n_ok"]) == [1, 1, 2, 2]


def test_a_variance_per_weight_compares_as_a_variance(tmp_path: Path) -> None:
    """In the units of its estimand's gradient, and by ratios."""
    for name, bound, k, value in (("reparam", ELBO, 1, 4.0), ("iwae[k=5]", IWAE, 5, 2.0), ("stl", ELBO, 1, 2.0)):
        for seed in range(3):
            commit(tmp_path, name, seed, Figure(value, 0.05 * value, metric=f"{VARIANCE}_per_weight"), bound=bound, k=k)
    table = compare(tmp_path, f"{VARIANCE}_per_weight", "reparam")
    assert row(table, "iwae[k=5]")["verdict"] == "other estimand"
    assert row(table, "stl")["estimate"] == pytest.approx(0.5)
