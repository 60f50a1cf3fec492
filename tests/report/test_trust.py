"""A log likelihood that k-hat does not vouch for says so in every table and figure."""

from __future__ import annotations

import math

import pytest

from tests.report.small_studies import commit, rows
from vbench.records import Row, Store, load
from vbench.report import trust
from vbench.report.comparison import compare
from vbench.report.contents import contents, doubted
from vbench.report.evidence import read_evidence
from vbench.report.figures import ladder
from vbench.report.page import build
from vbench.report.recount import differences
from vbench.report.summary import summarize

SHARES = {"reparam": 0.74, "iwae[k=5]": 0.05}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results") / "ladders"
    for estimator, share in SHARES.items():
        for seed in (0, 1):
            found = rows(estimator, seed)
            last = next(row.value for row in found if row.metric == "log_likelihood")
            for k, below, doubt in ((1, 3.0, 1.0), (10, 1.0, 0.9), (100, 0.0, share)):
                found.append(Row(200, "test", f"log_likelihood[k={k}]", "all", last - below, 0.5, 50, "nats"))
                found.append(Row(200, "test", f"k_hat_share[k={k}]", "encoder", doubt, 0.1, 50, "1"))
            found.append(Row(200, "test", "k_hat_share", "encoder", share, 0.1, 50, "1"))
            found.append(Row(200, "test", "log_likelihood_ais", "all", last + 0.5, 0.5, 20, "nats"))
            found.append(Row(200, "test", "log_likelihood_shortfall", "all", 0.5, 0.1, 20, "nats"))
            found.append(Row(200, "simulated", "log_likelihood_gap", "all", 0.2 + seed, 0.1, 20, "nats"))
            commit(Store(folder), estimator, seed, measured=found)
    return folder


def test_a_share_above_the_limit_is_a_doubt(study):
    records = load(study)
    found = trust.doubts(records, "log_likelihood", "test")
    assert set(found.values()) == {0.74}
    assert len(found) == 2
    assert len(trust.doubts(records, "log_likelihood[k=10]", "test")) == 4
    assert len(trust.doubts(records, "log_likelihood_jackknife", "test")) == 2
    for other in ("elbo", "log_likelihood_ais", "log_likelihood_exact", "log_likelihood_upper"):
        assert trust.doubts(records, other, "test") == {}
    assert trust.doubts(records, "log_likelihood", "valid") == {}
    per_step = trust.doubts(records, "log_likelihood_per_step", "test")
    assert per_step == trust.doubts(records, "log_likelihood", "test")
    assert len(trust.doubts(records, "log_likelihood_per_step[k=10]", "test")) == 4
    nan = records.assign(value=records["value"].where(records["metric"] != "k_hat_share", math.nan))
    assert len(trust.doubts(nan, "log_likelihood", "test")) == 4  # what is not known is no comfort


def test_the_table_marks_it_and_says_why(study):
    summary = summarize(load(study), load(study, "cells").assign(bound="x"))
    place = summary.columns.index("log p(x)")
    shown = {row[0]: row[place] for row in summary.sections[0].rows}
    assert shown["reparam"].endswith(trust.MARK)
    assert trust.MARK not in shown["iwae[k=5]"]
    assert any(f"log p(x){trust.MARK}: not to be trusted" in note and "74%" in note for note in summary.notes)
    assert "AIS" in summary.columns


def test_a_comparison_remarks_on_it(study):
    table = compare(study, "log_likelihood", "iwae[k=5]").set_index("estimator")
    assert "above its limit for 74% of the data" in table.loc["reparam", "remarks"]
    assert "trusted" not in table.loc["iwae[k=5]", "remarks"]
    assert "trusted" not in " ".join(compare(study, "log_likelihood_ais", "iwae[k=5]")["remarks"])


@pytest.mark.usefixtures("blank")
def test_the_page_shows_ladder_bracket_and_doubts_and_recounts(study):
    evidence = read_evidence(study)
    html = build(contents(evidence)).html
    assert "Not to be trusted, since Pareto k-hat" in html
    assert "reparam log_likelihood (74%)" in html
    assert "k-hat above limit" in html
    for name in ("likelihood-ladder", "likelihood-shortfall", "likelihood-gap"):
        assert name in html
    assert differences(html, evidence) == []
    assert doubted(ladder.GAP.numbers(evidence), evidence) == ""


def test_the_ladder_has_a_rung_for_each_k(study):
    table = ladder.LADDER.numbers(read_evidence(study))
    mine = table[table["series"] == "reparam"].sort_values("x")
    assert mine["x"].tolist() == [1, 10, 100]
    assert mine["value"].diff().dropna().tolist() == pytest.approx([2.0, 1.0])
