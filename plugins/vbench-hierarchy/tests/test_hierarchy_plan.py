"""What goes with what, and why not; the judge's verdicts."""

from pathlib import Path

import pytest
from vbench_hierarchy import vbench_encoders, vbench_priors

from vbench import Incompatible, build
from vbench.study import make_plan
from vbench.testing import Verdict, check

GRID = Path(__file__).parents[1] / "grid.yaml"


def test_the_plan_says_of_every_pair_whether_it_goes_and_why_not(tmp_path):
    plan = make_plan(GRID, results=tmp_path)
    asked = {(str(p.cell.encoder), str(p.cell.prior), p.cell.estimator.name): p for p in plan.cells}
    runs = {(encoder, prior) for (encoder, prior, _), planned in asked.items() if planned.action == "run"}
    one, two = "hierarchy[hidden=[]]", "hierarchy[hidden=[[32]]]"
    layered = "[latent=[16,8],hidden=[[64],[32]]]"
    assert runs == {
        ("hierarchy[latent=[16],hidden=[[64]]]", one),
        *((kind + layered, two) for kind in ("hierarchy", "lvae", "top-down")),
    }
    reason = asked["lvae" + layered, one, "reparam"].reason
    assert "the steps between 2 layers take 1 entries in hidden, one for each net, not 0" in reason


def reason(encoder="hierarchy", prior="hierarchy", estimator="reparam", decoder="bernoulli"):
    try:
        build(dataset="digits", encoder=encoder, decoder=decoder, prior=prior, estimator=estimator)
    except Incompatible as why:
        return str(why)
    return ""


def test_reasons():
    for encoder in ("hierarchy", "lvae", "top-down"):
        for rule in ("reparam", "iwae", "stl", "dreg", "renyi", "reinforce", "nvil", "rloo", "vimco"):
            assert reason(encoder, estimator=rule) == ""
        assert "needs factorized-prior and kl" in reason(encoder, estimator="reparam[kl=analytic]")
    assert "needs layers" in reason("gaussian")
    assert "needs layers and real-latent" in reason("bernoulli", estimator="rloo")
    assert "needs top-down" in reason("lvae", "standard-normal")
    assert reason("hierarchy", "standard-normal") == ""
    assert "2 layers take 2 entries in hidden" in reason("hierarchy[latent=[8,4],hidden=[[16]]]")


def test_every_decoder_is_made_for_the_layer_next_to_the_data():
    made = build(
        dataset="digits", encoder="lvae[latent=[5,3]]", decoder="conv-bernoulli", prior="hierarchy", estimator="reparam"
    )
    assert made.model.encoder.z.shape == (8,)
    assert made.model.decoder.linear.in_features == 5


EVERY = [("encoder", name) for name in vbench_encoders()] + [("prior", name) for name in vbench_priors()]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_judged(kind, name):
    results = check(kind, name)
    assert [f"{result.name}: {result.figure}" for result in results if result.verdict is not Verdict.PASS] == []
    assert len(results) > 5
