"""Numbers against the records they come from: which seeds, which steps, how many of how many."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from scipy import stats

from tests.report.small_studies import LABELS, commit, rows, study
from vbench.records import Row, Store
from vbench.report.contents import contents
from vbench.report.evidence import evidence as find
from vbench.report.evidence import plain, read_evidence
from vbench.report.figures import paired_ratios
from vbench.report.numbers import MissingError, by_part, numbers
from vbench.report.page import build
from vbench.report.recount import differences


def of(table: pd.DataFrame, series: str, step: int = 200) -> pd.Series:
    ((_, row),) = table[(table["series"] == series) & (table["step"] == step)].iterrows()
    return row


def test_means_over_the_seeds_that_finished(evidence) -> None:
    table = numbers(evidence, "elbo", "test", last=True)
    whole, short = of(table, "reparam"), of(table, "rloo[k=4]")
    half = stats.sem([-90, -92, -97]) * stats.t.ppf(0.975, 2)
    assert whole["value"] == pytest.approx(-93)
    assert (whole["low"], whole["high"]) == pytest.approx((-93 - half, -93 + half))
    assert (whole["n_ok"], whole["n_total"]) == (3, 3)
    assert short["value"] == pytest.approx(-97)
    assert (short["n_ok"], short["n_total"]) == (2, 3)


def test_a_seed_that_failed_later_is_no_part_of_the_mean_before(evidence) -> None:
    row = of(numbers(evidence, "elbo", "valid"), "rloo[k=4]", 100)
    assert row["value"] == pytest.approx(-97 - 2)
    assert (row["n_ok"], row["n_total"]) == (2, 3)


def test_variances_have_geometric_means_and_stand_by_part(evidence) -> None:
    table = by_part(evidence, "gradient_variance", statistic="geometric mean")
    assert set(table["part"]) == {"encoder", "decoder"}  # "all" is their sum
    encoder = table[table["part"] == "encoder"]
    assert of(encoder, "reparam")["value"] == pytest.approx((4 * 8 * 2) ** (1 / 3))
    assert of(encoder, "reparam")["estimand"] == "ELBO"
    assert of(encoder, "iwae[k=5]")["estimand"] == "IWAE, K=5"


def test_one_seed_shows_its_own_error(tmp_path) -> None:
    found = read_evidence(study(tmp_path / "s", ["reparam"], seeds=1))
    row = of(numbers(found, "gradient_variance", "train", "encoder", statistic="geometric mean"), "reparam")
    half = stats.t.ppf(0.975, 99) * 0.1
    assert (row["low"], row["high"]) == pytest.approx((4 * math.exp(-half), 4 * math.exp(half)))
    assert row["interval"] == "Monte Carlo, one seed"


def test_a_combination_that_never_finished_keeps_its_row(tmp_path) -> None:
    folder = study(tmp_path / "s", ["reparam"])
    for seed in range(2):
        commit(Store(folder), "rloo[k=4]", seed, "failed", reason="boom")
    row = of(numbers(read_evidence(folder), "elbo", "valid"), "rloo[k=4]")
    assert math.isnan(row["value"])
    assert (row["n_ok"], row["n_total"]) == (0, 2)


def test_what_is_not_resolved_is_counted_not_averaged(tmp_path) -> None:
    store = Store(tmp_path / "s")
    for seed, value in enumerate((0.5, math.nan, 2.0)):
        commit(store, "reparam", seed, measured=[Row(10, "train", "gradient_snr", "all", value, None, 9, "1")])
    row = of(numbers(read_evidence(tmp_path / "s"), "gradient_snr", "train", statistic="geometric mean"), "reparam", 10)
    assert row["value"] == pytest.approx(1.0)
    assert (row["n_ok"], row["n_total"]) == (2, 3)


def test_a_metric_that_is_not_there_says_why(tmp_path) -> None:
    with pytest.raises(MissingError, match=r"no log_likelihood_upper \(test, all\) in the records"):
        numbers(read_evidence(study(tmp_path / "s", ["reparam"], 1)), "log_likelihood_upper", "test")


@pytest.mark.usefixtures("blank")
@pytest.mark.usefixtures("blank")
def test_seeds_of_other_settings_are_never_averaged_together(tmp_path) -> None:
    store = Store(tmp_path / "s")
    for steps in (100, 200):
        for estimator in ("reparam", "rloo[k=4]"):
            for seed in range(2):
                spec = {"train": {"steps": steps, "lr": 0.1}, "measure": {"gradients": {"at": "shared"}}}
                key = f"{estimator[:3]}{steps}seed{seed}"
                commit(store, estimator, seed, measured=rows(estimator, seed), key=key, spec=spec)
    found = read_evidence(tmp_path / "s")
    table = numbers(found, "elbo", "test", last=True)
    assert set(table["panel"]) == {"train.steps 100", "train.steps 200"}
    assert table["n_total"].tolist() == [2, 2, 2, 2]
    pairs = paired_ratios.CHART.numbers(found)
    assert sorted(pairs["panel"]) == 2 * ["train.steps 100"] + 2 * ["train.steps 200"]
    assert pairs["n_ok"].tolist() == [2, 2, 2, 2]
    page = build(contents(found))
    assert differences(page.html, found) == []
    assert "All were measured at the same parameters" in page.html


def test_an_estimand_is_the_declared_target_before_the_bound(study) -> None:
    found = read_evidence(study)
    targets = ["Wake()" if name == "iwae[k=5]" else None for name in found.cells["estimator"]]
    mine = find((found.records, found.cells.assign(target=targets)))
    assert set(mine.asked["estimand"]) == {"ELBO", "target Wake, K=5"}


def test_axes_are_named_by_what_varies(tmp_path) -> None:
    store = Store(tmp_path / "s")
    for number, encoder in enumerate(("gaussian[latent=2]", "gaussian[latent=8]", "bernoulli")):
        labels = LABELS | {"encoder": encoder, "train": f"lr={number}"}
        commit(store, "reparam", 0, measured=rows("reparam", 0), labels=labels, key=f"cell{number}")
    found = read_evidence(tmp_path / "s")
    assert set(found.cells["panel"]) == {
        "encoder gaussian[latent=2]",
        "encoder gaussian[latent=8]",
        "encoder bernoulli",
    }
    assert found.series == ("reparam, lr=0", "reparam, lr=1", "reparam, lr=2")
    assert found.common == {
        "dataset": "digits",
        "decoder": "bernoulli",
        "prior": "standard-normal",
        "estimator": "reparam",
    }


def test_frames_serve_as_well_and_cells_filter_the_records(study) -> None:
    found = read_evidence(study)
    some = found.cells[found.cells["estimator"] == "reparam"]
    mine = find((found.records, some))
    assert set(mine.records["estimator"].astype(str)) == {"reparam"}
    with pytest.raises(TypeError, match="records alone hide what failed"):
        find(found.records)


def test_an_unknown_study_names_the_nearest(study) -> None:
    with pytest.raises(FileNotFoundError, match=r"no results in .*smal .*did you mean .*small\?"):
        read_evidence(study.parent / "smal")


@pytest.mark.parametrize("bad", ["\x1b[31m", "\u202e", "\x00", "\u200b", "\n", "\x9b"], ids=ascii)
def test_what_a_terminal_obeys_is_replaced(bad: str) -> None:
    assert plain(f"a{bad}b").startswith("a\ufffd")
