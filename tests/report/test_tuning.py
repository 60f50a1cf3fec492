"""Each estimator at the training setting that validation data chose, and how much that choice matters."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from tests.report.small_studies import BOUNDS, LABELS
from vbench.records import Outcome, Row, Store
from vbench.report.comparison import ComparisonError, compare
from vbench.report.evidence import read_evidence
from vbench.report.figures import CHARTS
from vbench.report.numbers import MissingError
from vbench.report.tuning import tuned

BY_NAME = {chart.name: chart for chart in CHARTS}

# estimator, learning rate: validation and test ELBO of each seed; None: diverged
OUTCOMES = {
    ("reparam", "lr=0.001"): [(-100.0, -90.0), (-102.0, -91.0)],
    ("reparam", "lr=0.01"): [(-99.0, -95.0), (-101.0, -96.0)],  # better on validation, worse on test
    ("rloo[k=4]", "lr=0.001"): [(-110.0, -111.0), (-112.0, -113.0)],
    ("rloo[k=4]", "lr=0.01"): [(-50.0, -51.0), None],  # a mean over survivors chooses nothing
}


def commit(store: Store, estimator: str, train: str, seed: int, found) -> None:
    bound, k = BOUNDS[estimator]
    rows = []
    if found:
        valid, test = found
        noise = 0.3 if estimator == "reparam" else 0.9
        rows = [
            Row(10, "valid", "elbo", "all", valid, 0.5, 50, "nats"),
            Row(10, "test", "elbo", "all", test, 0.5, 50, "nats"),
        ]
        for metric in ("noise_share", "gradient_relative_variance"):
            rows.append(Row(10, "train", metric, "encoder", noise, 0.01, 20, "1"))
            rows.append(Row(10, "train", metric, "all", noise, 0.01, 20, "1"))
    labels = LABELS | {"estimator": estimator, "train": train}
    spec = {"train": {"lr": float(train[3:])}}
    facts = {"bound": bound, "k": k, "seconds": 1.0, "skipped_measures": ""}
    key = f"{estimator}{train}{seed}".translate(str.maketrans("=.[]", "____"))
    store.commit(
        Outcome(key, "done" if found else "diverged", "" if found else "step 3", labels, seed, spec=spec, facts=facts),
        rows,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results") / "tuned"
    for (estimator, train), seeds in OUTCOMES.items():
        for seed, found in enumerate(seeds):
            commit(Store(folder), estimator, train, seed, found)
    return folder


@pytest.fixture(scope="module")
def swept(folder):
    return read_evidence(folder)


def test_validation_chooses_and_survivors_do_not(swept) -> None:
    chosen = tuned(swept).asked.drop_duplicates("combination")
    assert set(zip(chosen["estimator"].astype(str), chosen["train"].astype(str), strict=True)) == {
        ("reparam", "lr=0.01"),
        ("rloo[k=4]", "lr=0.001"),
    }


def test_test_data_are_compared_at_the_chosen_settings(folder) -> None:
    table = compare(folder, "elbo", "rloo", tuned=True).set_index("estimator")
    assert table.loc["reparam", ["estimate", "seeds", "n_ok", "n_total"]].to_list() == [16.5, 2, 2, 2]
    assert table["remarks"].str.split("\n").str[0].to_dict() == {
        "reparam": "tuned: lr=0.01",
        "rloo[k=4]": "tuned: lr=0.001",
    }
    assert set(table["train"]) == {"each at its best on validation data"}


def test_without_validation_data_nothing_is_tuned(tmp_path) -> None:
    labels = LABELS | {"estimator": "reparam"}
    facts = {"bound": "", "k": 1, "seconds": 1.0, "skipped_measures": ""}
    row = Row(10, "test", "elbo", "all", -100.0, 0.5, 50, "nats")
    Store(tmp_path).commit(Outcome("cell", "done", "", labels, 0, spec={}, facts=facts), [row])
    with pytest.raises(ComparisonError, match="tuned: no elbo"):
        compare(tmp_path, "elbo", "reparam", tuned=True)


def test_outcome_stands_against_noise_at_the_chosen_setting(swept) -> None:
    table = BY_NAME["variance-outcome"].numbers(swept)
    elbo = table[table["metric"] == "elbo"].set_index("series")["value"].to_dict()
    assert sorted(elbo.values()) == [-112.0, -95.5]
    placed = BY_NAME["variance-outcome"].drawn(Figure(), swept, 2)
    assert [axes.get_xscale() for axes in placed] == ["linear", "log"]
    assert [axes.get_yscale() for axes in placed] == ["linear", "linear"]


def test_sensitivity_has_one_line_an_estimator(swept) -> None:
    (axes,) = BY_NAME["tuning"].drawn(Figure(), swept, 2)
    found = [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in axes.lines]
    assert ([0.001, 0.01], [-101.0, -100.0]) in found
    assert ([0.001, 0.01], [-111.0, -50.0]) in found
    assert axes.get_xlabel() == "lr"
    assert axes.get_xscale() == "log"


def test_a_sweep_of_names_is_drawn_as_rows(tmp_path) -> None:
    folder = tmp_path / "names"
    for train in ("optimizer=sgd", "optimizer=adam"):
        labels = LABELS | {"estimator": "reparam", "train": train}
        rows = [Row(10, "valid", "elbo", "all", -100.0, 0.5, 50, "nats")]
        facts = {"bound": "", "k": 1, "seconds": 1.0, "skipped_measures": ""}
        Store(folder).commit(Outcome(train.replace("=", "-"), "done", "", labels, 0, spec={}, facts=facts), rows)
    (axes,) = BY_NAME["tuning"].drawn(Figure(), read_evidence(folder), 2)
    assert len(axes.get_yticklabels()) == 2


def test_one_setting_needs_no_tuning(evidence) -> None:
    with pytest.raises(MissingError, match="nothing is swept"):
        BY_NAME["tuning"].numbers(evidence)
    assert len(tuned(evidence).cells) == len(evidence.asked)
