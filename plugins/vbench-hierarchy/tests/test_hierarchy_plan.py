"""What goes with what, and why not; the judge's verdicts."""

from pathlib import Path

import pytest
from vbench_hierarchy import vbench_decoders, vbench_encoders, vbench_estimators, vbench_priors

from vbench import Incompatible, build
from vbench.study import make_plan
from vbench.testing import Verdict, check

GRID = Path(__file__).parents[1] / "grid.yaml"


def test_the_plan_says_of_every_pair_whether_it_goes_and_why_not(tmp_path):
    plan = make_plan(GRID, results=tmp_path)
    asked = {(*map(str, (p.cell.encoder, p.cell.decoder, p.cell.prior)), p.cell.estimator.name): p for p in plan.cells}
    runs = {key for key, planned in asked.items() if planned.action == "run"}
    one, two, noise, net = "standard-normal", "hierarchy[hidden=[[32]]]", "vdm[hidden=[64]]", "bernoulli[hidden=[64]]"
    layered, written = "[latent=[16,8],hidden=[[64],[32]]]", "draw[hidden=32,write=3]"
    glimpses = "draw[steps=3,latent=4,hidden=32,read=3]"
    fits = [("hierarchy[latent=[16],hidden=[[64]]]", net, one), ("hierarchy" + layered, net, one)]
    fits += [(kind + layered, net, two) for kind in ("hierarchy", "lvae", "top-down")]
    fits += [(glimpses, written, one)]
    assert runs == {(*fit, rule) for fit in fits for rule in ("reparam", "dreg")} | {
        ("vdm[steps=10]", net, noise, rule) for rule in ("reparam", "dreg", "vdm", "vdm-continuous")
    }
    assert "as wide as each other" in asked["lvae" + layered, net, noise, "reparam"].reason
    assert "needs denoiser" in asked["vdm[steps=10]", net, one, "reparam"].reason
    assert "needs canvas and hidden-32" in asked[glimpses, net, one, "reparam"].reason
    assert "takes latents [T, D], step by step, not [16]" in asked["lvae" + layered, written, two, "reparam"].reason
    reason = asked["hierarchy[latent=[16],hidden=[[64]]]", net, two, "reparam"].reason
    assert "the steps between 1 layers take 0 entries in hidden, one for each net, not 1" in reason


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


def test_draw_goes_with_itself_and_every_rule_of_densities():
    pair = {"prior": "standard-normal", "decoder": "draw"}
    for rule in ("reparam", "iwae", "stl", "dreg", "renyi", "reinforce", "nvil", "rloo", "vimco"):
        assert reason("draw", estimator=rule, **pair) == ""
    assert "needs kl" in reason("draw", estimator="reparam[kl=analytic]", **pair)
    assert reason("draw[hidden=32,read=null]", decoder="draw[hidden=32,write=null]", prior="standard-normal") == ""
    assert "encoder draw needs hidden-256, which" in reason("draw", decoder="draw[hidden=64]", prior="standard-normal")
    assert "encoder draw needs canvas" in reason("draw", "standard-normal")
    assert "needs layers" in reason("draw", decoder="draw")
    assert "of latents [D]" in reason("draw", decoder="draw", prior="gaussian-mixture")
    assert "takes latents [T, D]" in reason("gaussian", **pair)
    assert "needs real-latent" in reason("categorical", decoder="draw", prior="categorical", estimator="rloo")


def test_every_decoder_is_made_for_the_layer_next_to_the_data():
    made = build(
        dataset="digits", encoder="lvae[latent=[5,3]]", decoder="conv-bernoulli", prior="hierarchy", estimator="reparam"
    )
    assert made.model.encoder.z.shape == (8,)
    assert made.model.decoder.linear.in_features == 5


KINDS = {
    "decoder": vbench_decoders(),
    "encoder": vbench_encoders(),
    "estimator": vbench_estimators(),
    "prior": vbench_priors(),
}
EVERY = [(kind, name) for kind, names in KINDS.items() for name in names]
EVERY += [("encoder", "draw[read=null]"), ("decoder", "draw[write=null]")]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_judged(kind, name):
    results = check(kind, name)
    assert [f"{result.name}: {result.figure}" for result in results if result.verdict is not Verdict.PASS] == []
    assert len(results) > 5
