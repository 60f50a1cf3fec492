"""What goes with what, and why not; the judge's verdicts."""

from pathlib import Path

import pytest
from vbench_priors import vbench_encoders, vbench_priors

from vbench import Incompatible, build
from vbench.study import make_plan
from vbench.testing import Verdict, check

GRID = Path(__file__).parents[1] / "grid.yaml"
MIXED = {"acn", "exemplar", "standard-normal", "vamp"}


def test_the_plan_says_of_every_pair_whether_it_goes_and_why_not(tmp_path):
    plan = make_plan(GRID, results=tmp_path)
    asked = {(p.cell.encoder.name, p.cell.prior.name, str(p.cell.estimator)): p for p in plan.cells}
    runs = {key for key, planned in asked.items() if planned.action == "run"}
    sampled = {(encoder, prior) for encoder, prior, rule in runs if rule == "reparam"}
    by_encoder = {encoder: {prior for e, prior in sampled if e == encoder} for encoder, *_ in asked}
    assert by_encoder == {
        "gaussian": MIXED,
        "kumaraswamy": {"stick-breaking", "vamp"},
        "logit-normal": {"stick-breaking", "vamp"},
        "von-mises-fisher": {"uniform-sphere", "vamp"},
    }
    closed = {(encoder, prior) for encoder, prior, rule in runs if rule == "reparam[kl=analytic]"}
    assert closed == {("gaussian", "standard-normal"), ("von-mises-fisher", "uniform-sphere")}
    assert "needs simplex-latent" in asked["gaussian", "stick-breaking", "reparam"].reason
    assert "needs factorized-prior" in asked["gaussian", "vamp", "reparam[kl=analytic]"].reason
    assert {prior for _, prior, _ in asked} == {*vbench_priors(), "standard-normal"}
    assert {encoder for encoder, *_ in asked} == {*vbench_encoders(), "gaussian"}


def reason(encoder, prior, estimator="reparam"):
    try:
        build(dataset="digits", encoder=encoder, decoder="bernoulli", prior=prior, estimator=estimator)
    except Incompatible as why:
        return str(why)
    return ""


def test_pseudo_inputs_go_with_every_posterior_that_is_known_at_new_data():
    assert not reason("bernoulli[latent=4]", "vamp", "rloo")
    assert not reason("categorical[latent=2,classes=3]", "vamp", "rloo")
    assert "of 2000 pseudo" not in reason("gaussian", "vamp[components=2000]")
    assert "2000 pseudo-inputs" in reason("gaussian", "vamp[components=2000,start=data]")
    for prior in ("acn", "exemplar"):
        assert "needs" in reason("bernoulli[latent=4]", prior, "rloo")


@pytest.mark.parametrize(
    ("encoder", "package", "missing"),
    [
        ("svi", "vbench_local", "amortized"),
        ("semi-amortized", "vbench_local", "independent-prior"),
        ("hvi", "vbench_hmc", "density"),
        ("vrs", "vbench_rejection", "normalized"),
    ],
)
def test_posteriors_of_other_packages_that_pseudo_inputs_do_not_serve(encoder, package, missing):
    pytest.importorskip(package)
    assert f"needs {missing}" in reason(encoder, "vamp") or missing in reason(encoder, "vamp")


def test_flows_make_a_mixture_of_flows():
    pytest.importorskip("vbench_flows")
    assert not reason("planar[latent=3]", "vamp[components=3]")
    assert "loc-scale" in reason("planar[latent=3]", "exemplar")


EVERY = [("encoder", name) for name in vbench_encoders()] + [("prior", name) for name in vbench_priors()]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_judged(kind, name):
    results = check(kind, name)
    assert [f"{result.name}: {result.figure}" for result in results if result.verdict is not Verdict.PASS] == []
    assert len(results) > 7
