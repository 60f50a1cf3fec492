"""Seeds and estimators whose trainings end at different steps: final figures are over final models, all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

import vbench
from vbench.records import Outcome, Row, Store
from vbench.report.contents import contents
from vbench.report.ends import told
from vbench.report.evidence import evidence, read_evidence
from vbench.report.numbers import numbers
from vbench.report.page import build
from vbench.report.recount import differences

LABELS = {"dataset": "digits", "encoder": "gaussian", "decoder": "bernoulli", "prior": "standard-normal", "train": ""}
ENDS = {"reparam": (150, 200, 320), "rloo[k=4]": (200, 100, 200)}


def value(estimator: str, seed: int, step: int) -> float:
    return step / 100 + 10 * seed + (1 if estimator == "reparam" else 0)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    store = Store(tmp_path / "study")
    for estimator, ends in ENDS.items():
        for seed, end in enumerate(ends):
            rows = [
                Row(step, "valid", "elbo", "all", value(estimator, seed, step), 0.1, 50, "nats")
                for step in {*range(100, end, 100), end}
            ]
            rows.append(Row(end, "test", "elbo", "all", -value(estimator, seed, end), 0.1, 50, "nats"))
            rows.append(Row(end, "train", "seconds_per_step", "all", 0.01, None, 50, "s"))
            for step in (0, 100, 500):  # at the checkpoints of another run, one of which has the number of an end
                rows.append(Row(step, "train", "gradient_variance", "all", 1.0 + step + seed, 0.1, 50, "nats^2"))
            spec = {"measure": {"gradients": {"at": "shared"}}}
            facts = {"bound": "ELBO()", "k": 1, "ended_after": end, "ended_by": "patience"}
            labels = LABELS | {"estimator": estimator}
            store.commit(Outcome(f"{estimator[:4]}{seed}", "done", "", labels, seed, spec, facts), rows)
    return store.folder


def test_a_mean_is_over_all_seeds_and_what_ended_stays(study: Path) -> None:
    found = numbers(read_evidence(study), "elbo", "valid")
    for estimator, steps in (("reparam", [100, 200, 300, 320]), ("rloo[k=4]", [100, 200])):
        mine = found[found["series"] == estimator]
        assert mine["step"].tolist() == steps
        for row in mine.itertuples():
            expected = [value(estimator, seed, min(row.step, end)) for seed, end in enumerate(ENDS[estimator])]
            assert row.n_ok == row.n_total == 3
            assert [seed.value for seed in row.seeds] == expected
            assert row.value == pytest.approx(sum(expected) / 3)


def test_final_figures_are_of_final_models(study: Path) -> None:
    for split, sign in (("valid", 1), ("test", -1)):
        found = numbers(read_evidence(study), "elbo", split, last=True).set_index("series")["value"]
        for estimator, ends in ENDS.items():
            final = [sign * value(estimator, seed, end) for seed, end in enumerate(ends)]
            assert found[estimator] == pytest.approx(sum(final) / 3)


def test_a_comparison_pairs_ends(study: Path) -> None:
    table = vbench.compare(study, "elbo", "reparam").set_index("estimator")
    row = table.loc["rloo[k=4]"]
    expected = [
        -value("rloo[k=4]", seed, other) + value("reparam", seed, end)
        for seed, (end, other) in enumerate(zip(ENDS["reparam"], ENDS["rloo[k=4]"], strict=True))
    ]
    assert (row["step"], row["seeds"]) == (320, 3)
    assert row["estimate"] == pytest.approx(sum(expected) / 3)
    assert row["remarks"] == "training ended after 100 to 200 steps, by patience"
    at = vbench.compare(study, "elbo", "reparam", split="valid", step=200).set_index("estimator")
    there = [value("reparam", seed, step) for seed, step in enumerate((150, 200, 200))]
    assert at.loc["reparam", "value"] == pytest.approx(sum(there) / 3)


def test_steps_of_another_run_stay(study: Path) -> None:
    found = numbers(read_evidence(study), "gradient_variance", "train")
    assert found.groupby("series")["step"].apply(list).tolist() == [[0, 100, 500]] * 2
    assert set(found["n_ok"]) == {3}
    records, cells = vbench.load(study), vbench.load(study, "cells")
    again = evidence(evidence((records, cells)))
    assert len(again.records[again.records["metric"] == "gradient_variance"]) == 18


@pytest.mark.usefixtures("blank")
def test_a_page_of_it_counts_again(study: Path) -> None:
    found = read_evidence(study)
    assert differences(build(contents(found)).html, found) == []


def test_where_all_end_at_once_nothing_is_moved(study: Path) -> None:
    records, cells = vbench.load(study), vbench.load(study, "cells")
    same = cells.assign(ended_after=320)
    for each in (same, cells.drop(columns="ended_after")):
        assert evidence((records, each)).records["step"].tolist() == records["step"].tolist()
    assert told(cells.assign(ended_by="steps")) == ""
    assert told(cells[cells["estimator"] == "reparam"]) == "training ended after 150 to 320 steps, by patience"
