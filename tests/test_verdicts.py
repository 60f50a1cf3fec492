"""The judge's verdict beside the numbers that it is about, and beside no others."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import vbench
from vbench.bounds import ELBO
from vbench.cli import main
from vbench.estimators.pathwise import Pathwise
from vbench.report.comparison import compare
from vbench.report.judgement import words
from vbench.study import run
from vbench.testing import check
from vbench.testing.verdict import CheckResult, Verdict
from vbench.verdicts import UNTESTED, JudgedEstimator, beside, estimator_of, load_verdicts, save_verdicts

GRID: dict[str, Any] = {
    "name": "judged",
    "datasets": ["bernoulli-bars"],
    "encoders": [{"gaussian": {"latent": 2, "hidden": [4]}}],
    "decoders": [{"bernoulli": {"hidden": [4]}}],
    "priors": ["standard-normal"],
    "estimators": ["stl", {"reparam": {"kl": "analytic"}}],
    "train": {"steps": 2, "batch": 8},
    "measure": {"data": 8, "samples": 2},
}
SPEC = {"estimator": {"name": "rloo", "parameters": {"k": 4}}}
MADE = {"code": "c", "plugins": [{"name": "p", "version": "1", "digest": "d"}]}
FOUND = JudgedEstimator(estimator_of("rloo", {"k": 4}), "c", "", "s", "PASS(5%)")


class Stretched(Pathwise):
    """Half as much again as the ELBO's gradient, and says that it is biased."""

    unbiased = False

    def __init__(self) -> None:
        super().__init__(ELBO(), 1)

    def forward(self, model: Any, batch: Any, rng: Any) -> Any:
        estimate = super().forward(model, batch, rng)
        return estimate._replace(surrogate=1.5 * estimate.surrogate)


def test_a_verdict_stands_where_code_and_parameters_are_its_own() -> None:
    assert beside([FOUND], SPEC, MADE) == "PASS(5%)"
    other = {"estimator": {"name": "rloo", "parameters": {"k": 2}}}
    assert beside([FOUND], other, MADE) == UNTESTED
    assert beside([FOUND], SPEC, {**MADE, "code": "later"}) == UNTESTED
    assert beside([], SPEC, MADE) == UNTESTED
    assert beside([FOUND], {}, {}) == UNTESTED
    plugged = dataclasses.replace(FOUND, plugin="d")
    assert beside([plugged], SPEC, MADE) == "PASS(5%)"
    assert beside([plugged], SPEC, {"code": "c", "plugins": []}) == UNTESTED
    assert beside([FOUND, dataclasses.replace(FOUND, suite="t", verdict="FAIL")], SPEC, MADE) == "FAIL"


def test_verdicts_are_added_to(tmp_path: Path) -> None:
    assert load_verdicts(tmp_path) == []
    save_verdicts(tmp_path, [FOUND])
    later, other = dataclasses.replace(FOUND, verdict="FAIL"), dataclasses.replace(FOUND, code="e")
    save_verdicts(tmp_path, [later, other])
    assert load_verdicts(tmp_path) == [later, other]
    (tmp_path / "verdicts.json").write_text("[{}", "utf-8")
    assert load_verdicts(tmp_path) == []


def result(name: str, verdict: Verdict = Verdict.PASS, figure: str = "") -> CheckResult:
    return CheckResult(name, verdict, figure, 0.0)


def test_words() -> None:
    exact = result("exact[line,k=1]:encoder", figure="r 1.0004 in [0.98, 1.02]")
    assert words([exact, result("source")]) == "PASS(5%)"
    assert words([result("source")]) == UNTESTED
    assert words([result("exact[line,k=1]:value")]) == UNTESTED
    assert words([exact, result("source", Verdict.FAIL)]) == "FAIL"
    assert words([exact, result("kind", Verdict.INCONCLUSIVE)]) == "INCONCLUSIVE"
    assert words([]) == "INCONCLUSIVE"


def test_a_declared_bias_is_told_by_its_factor() -> None:
    found = [r for r in check("estimator", Stretched) if r.name.startswith("exact[")]
    told, _, factor = words(found).rpartition(" ")
    assert told == "declared biased r ="
    assert float(factor) == pytest.approx(1.5, abs=0.15)  # the farthest from 1 of many, each with its error


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("results")
    run(GRID, results=root, workers=0)
    return root / "judged"


def test_a_study_is_judged_as_it_was_used(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(vbench.load(study, "cells")["judged"]) == {UNTESTED}
    done = CliRunner().invoke(main, ["check", "--study", str(study)])
    assert done.exit_code == 0, done.output
    assert "2 PASS, 0 FAIL, 0 INCONCLUSIVE of 2 components" in done.output
    cells = vbench.load(study, "cells").set_index("estimator")
    assert cells["judged"].to_dict() == {"stl": "PASS(5%)", "reparam[kl=analytic]": "PASS(5%)"}
    beside_numbers = vbench.load(study, columns=["judged"])
    assert set(beside_numbers["judged"]) == {"PASS(5%)"}
    again = CliRunner().invoke(main, ["check", "--study", str(study)])
    assert "of 0 components" in again.output, "what was judged stays judged"
    monkeypatch.setattr("vbench.report.judgement.code_digest", lambda: "another")
    monkeypatch.setattr("vbench.report.judgement._judge", lambda subjects, *rest: len(subjects))
    assert CliRunner().invoke(main, ["check", "--study", str(study)]).exit_code == 2, "new code is judged anew"


def test_a_failure_is_told_where_it_is_compared(study: Path) -> None:
    kept = load_verdicts(study)
    save_verdicts(study, [dataclasses.replace(v, verdict="FAIL") for v in kept if '"stl"' in v.estimator])
    table = compare(study, "elbo", "reparam").set_index("estimator")
    assert "the judge says FAIL" in table.loc["stl", "remarks"]
    assert "the judge" not in table.loc["reparam[kl=analytic]", "remarks"]
    save_verdicts(study, kept)


def test_what_cannot_be_judged_is_said(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["check", "--study", str(tmp_path)])
    assert done.exit_code == 2
    assert "no results in" in done.output
    assert CliRunner().invoke(main, ["check", "rloo", "--study", str(tmp_path)]).exit_code == 2
