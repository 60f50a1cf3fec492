"""What goes with what, and why not; the judge's verdicts."""

from pathlib import Path

import pytest
from vbench_hierarchy import vbench_encoders, vbench_estimators, vbench_priors

from vbench import Incompatible, build
from vbench.study import make_plan
from vbench.testing import Verdict, check

GRID = Path(__file__).parents[1] / "grid.yaml"


def test_the_plan_says_of_every_pair_whether_it_goes_and_why_not(tmp_path):
    plan = make_plan(GRID, results=tmp_path)
    asked = {(str(p.cell.encoder), str(p.cell.prior), p.cell.estimator.name): p for p in plan.cells}
    runs = {key for key, planned in asked.items() if planned.action == "run"}
    one, two, noise = "hierarchy[hidden=[]]", "hierarchy[hidden=[[32]]]", "vdm[hidden=[64]]"
    layered = "[latent=[16,8],hidden=[[64],[32]]]"
    pairs = [("hierarchy[latent=[16],hidden=[[64]]]", one)]
    pairs += [(kind + layered, two) for kind in ("hierarchy", "lvae", "top-down")]
    assert runs == {(*pair, rule) for pair in pairs for rule in ("reparam", "dreg")} | {
        ("vdm[steps=10]", noise, rule) for rule in ("reparam", "dreg", "vdm", "vdm-continuous")
    }
    assert "as wide as each other" in asked["lvae" + layered, noise, "reparam"].reason
    assert "needs denoiser" in asked["vdm[steps=10]", one, "reparam"].reason or "take 10 entries" in (
        asked["vdm[steps=10]", one, "reparam"].reason
    )
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
    assert "needs denoiser" in reason("vdm", "standard-normal")
    assert "needs denoiser and diffused" in reason(estimator="vdm")
    assert reason("hierarchy[latent=[5,5]]", "vdm") == ""
    assert reason("hierarchy", "standard-normal") == ""
    assert "2 layers take 2 entries in hidden" in reason("hierarchy[latent=[8,4],hidden=[[16]]]")


def test_every_decoder_is_made_for_the_layer_next_to_the_data():
    made = build(
        dataset="digits", encoder="lvae[latent=[5,3]]", decoder="conv-bernoulli", prior="hierarchy", estimator="reparam"
    )
    assert made.model.encoder.z.shape == (8,)
    assert made.model.decoder.linear.in_features == 5


KINDS = {"encoder": vbench_encoders(), "estimator": vbench_estimators(), "prior": vbench_priors()}
EVERY = [(kind, name) for kind, names in KINDS.items() for name in names]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_judged(kind, name):
    results = check(kind, name)
    assert [f"{result.name}: {result.figure}" for result in results if result.verdict is not Verdict.PASS] == []
    assert len(results) > 5
