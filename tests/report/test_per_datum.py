"""Two models on the same data: the t-test of differences, worked out by hand, and what is said where there is none."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

from tests.report.small_studies import LABELS
from vbench.cli import main
from vbench.records import Outcome, Row, Store
from vbench.report.per_datum import notes, paired_differences
from vbench.report.selection import ComparisonError

RNG = np.random.default_rng(3)
COMMON = -90 + 8 * RNG.standard_normal(60)
VALUES = {
    ("reparam", 0): COMMON,
    ("reparam", 1): COMMON + 0.3 * RNG.standard_normal(60),
    ("iwae[k=5]", 0): COMMON + 0.2 + 0.5 * RNG.standard_normal(60),
    ("iwae[k=5]", 1): COMMON + 0.4 + 0.5 * RNG.standard_normal(60),
    ("rloo[k=4]", 0): COMMON + 0.01 * RNG.standard_normal(60),
}


def commit(folder, estimator, seed, values, labels=LABELS, share=0.0, key="", metric="test log_likelihood"):
    name = key or f"{estimator[:4]}{seed}"
    rows = [
        Row(10, "test", "log_likelihood", "all", float(np.mean(values)), 1.0, len(values), "nats"),
        Row(10, "test", "k_hat_share", "encoder", share, None, len(values), "1"),
    ]
    outcome = Outcome(name, "done", "", {**labels, "estimator": estimator}, seed, facts={"data_digest": "d"})
    Store(folder).commit(outcome, rows, {metric: values})


@pytest.fixture
def study(tmp_path):
    for (estimator, seed), values in VALUES.items():
        commit(tmp_path / "pairs", estimator, seed, values, share=0.74 if estimator == "reparam" else 0.0)
    return tmp_path / "pairs"


def row_of(table, estimator):
    return table[table["estimator"] == estimator].iloc[0]


def test_differences_are_the_paired_t_test_over_data(study):
    table = paired_differences(study, "log_likelihood", "reparam")
    row = row_of(table, "iwae[k=5]")
    single = {key: each.astype("float32").astype("float64") for key, each in VALUES.items()}
    each = np.mean([single["iwae[k=5]", s] - single["reparam", s] for s in (0, 1)], axis=0)
    test = stats.ttest_1samp(each, 0)
    assert row["estimate"] == pytest.approx(each.mean())
    assert row["std_error"] == pytest.approx(stats.sem(each))
    assert (row["low"], row["high"]) == pytest.approx(tuple(test.confidence_interval()))
    assert row["p"] == pytest.approx(test.pvalue)
    means = [(single["iwae[k=5]", s] - single["reparam", s]).mean() for s in (0, 1)]
    assert row["between_sd"] == pytest.approx(np.std(means, ddof=1))
    assert (row["data"], row["seeds"], row["verdict"]) == (60, 2, "higher")
    # values of the data vary twenty times more than their differences
    assert np.std(COMMON) / 60**0.5 > 10 * row["std_error"]


def test_seeds_pair_with_their_like_and_small_differences_are_not_distinguished(study):
    row = row_of(paired_differences(study, "log_likelihood", "reparam"), "rloo[k=4]")
    assert row["seeds"] == 1
    assert row["between_sd"] != row["between_sd"]
    assert row["verdict"] == "not distinguished"
    assert row_of(paired_differences(study, "log_likelihood", "rloo"), "rloo[k=4]")["verdict"] == "baseline"


def test_models_compare_across_their_parts(study):
    other = LABELS | {"decoder": "conv-bernoulli"}
    commit(study, "reparam", 0, COMMON + 1.0, other, key="conv0")
    table = paired_differences(study, "log_likelihood", "conv-bernoulli")
    assert set(table["decoder"]) == {"bernoulli", "conv-bernoulli"}
    mine = table[(table["decoder"] == "bernoulli") & (table["estimator"] == "reparam")].iloc[0]
    assert mine["estimate"] == pytest.approx(-1.0, abs=1e-4)
    with pytest.raises(ComparisonError, match="is ambiguous: say which of bernoulli reparam, conv-bernoulli reparam"):
        paired_differences(study, "log_likelihood", "reparam")
    assert len(paired_differences(study, "log_likelihood", "reparam bernoulli")) == 4


def test_what_cannot_be_paired_says_why(study):
    commit(study, "stl", 0, COMMON[:30])
    commit(study, "dreg", 7, COMMON)
    broken = COMMON.copy()
    broken[3] = np.nan
    commit(study, "nvil", 0, broken)
    table = paired_differences(study, "log_likelihood", "reparam")
    assert row_of(table, "stl")["verdict"] == "other data"
    assert row_of(table, "dreg")["verdict"] == "no common seed"
    assert row_of(table, "nvil")["verdict"] == "not resolved"
    commit(study, "reparam", 0, COMMON, key="again0")
    with pytest.raises(ComparisonError, match="reparam seed 0 is there twice"):
        paired_differences(study, "log_likelihood", "reparam")


def test_figures_in_doubt_are_named(study):
    table = paired_differences(study, "log_likelihood", "reparam")
    text = "not to be trusted: Pareto k-hat is above its limit for 74% of the data"
    assert row_of(table, "reparam")["remarks"] == text
    assert row_of(table, "iwae[k=5]")["remarks"] == ""
    assert any(line.endswith(f"reparam: {text}") for line in notes(table))


def run(study, *words):
    return CliRunner().invoke(main, ["compare", str(study), "--paired", "--metric", *words])


def test_the_command_prints_every_form(study):
    table = run(study, "log_likelihood", "--baseline", "reparam")
    assert table.exit_code == 0
    assert "higher" in table.output
    assert "of these trained nets, and no others" in table.output
    found = json.loads(run(study, "log_likelihood", "--baseline", "reparam", "--json").output)
    assert found["baseline"].endswith("reparam")
    assert {row["estimator"] for row in found["rows"]} == {"reparam", "iwae[k=5]", "rloo[k=4]"}
    assert run(study, "log_likelihood", "--baseline", "reparam", "--csv").output.startswith("dataset,encoder,decoder")
    assert "\\toprule" in run(study, "log_likelihood", "--baseline", "reparam", "--latex").output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("elbo", "--baseline", "reparam"), "of single data: no metric 'elbo' (there is log_likelihood)"),
        (("log_likelihood", "--baseline", "repram"), "no model 'repram'; did you mean 'reparam'?"),
        (("log_likelihood", "--baseline", "reparam", "--split", "valid"), "no split 'valid'"),
        (("log_likelihood", "--baseline", "reparam", "--tuned"), "not with --tuned"),
        (("log_likelihood", "--baseline", "reparam", "--at", "seconds"), "not with --at"),
    ],
)
def test_wrong_calls_are_one_line(study, words, message):
    found = run(study, *words)
    assert found.exit_code == 2
    assert message in found.output
    assert "Traceback" not in found.output


def test_who_failed_is_there_and_counted(study):
    for estimator, seed in (("rloo[k=4]", 1), ("nvil", 0), ("nvil", 1)):
        name = f"{estimator[:4]}{seed}"
        Store(study).commit(Outcome(name, "diverged", "it is nan", {**LABELS, "estimator": estimator}, seed), [], {})
    table = paired_differences(study, "log_likelihood", "reparam")
    rloo, nvil, iwae = (row_of(table, name) for name in ("rloo[k=4]", "nvil", "iwae[k=5]"))
    assert (rloo["n_ok"], rloo["n_total"], bool(rloo["survivors"])) == (1, 2, True)
    assert rloo["remarks"] == "seed 1 diverged: it is nan"
    assert (nvil["n_ok"], nvil["n_total"], nvil["verdict"]) == (0, 2, "failed")
    assert (iwae["n_ok"], iwae["n_total"], bool(iwae["survivors"])) == (2, 2, False)
    assert any(line.endswith("rloo: seed 1 diverged: it is nan") for line in notes(table))
    printed = run(study, "log_likelihood", "--baseline", "reparam").output
    assert "1 of 2" in printed
    assert "0 of 2" in printed


def test_values_measured_by_other_settings_are_not_compared(study):
    store = Store(study)
    for seed, k in ((0, 10), (1, 10)):
        spec = {"measure": {"log_likelihood": {"k": k}}}
        outcome = Outcome(f"few{seed}", "done", "", {**LABELS, "estimator": "nvil"}, seed, spec=spec)
        store.commit(replace(outcome, facts={"data_digest": "d"}), [], {"test log_likelihood": COMMON})
    row = row_of(paired_differences(study, "log_likelihood", "reparam"), "nvil")
    assert row["verdict"] == "measured in another way"
    assert row["estimate"] != row["estimate"]
