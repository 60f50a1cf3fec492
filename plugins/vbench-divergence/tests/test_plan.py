"""What goes with what, and why not; what is measured where there is no posterior."""

from pathlib import Path

import pytest
import torch
from vbench_divergence import vbench_estimators
from vbench_divergence.none import NoEncoder

from vbench import Batch, Encoder, Incompatible, Model, Space, Trait, build
from vbench.builtin.decoders.bernoulli import BernoulliDecoder
from vbench.builtin.priors.standard_normal import StandardNormalPrior
from vbench.grid import Measure
from vbench.measure.diagnostics import diagnose
from vbench.measure.schedule import missing
from vbench.planning import make_plan

GRID = Path(__file__).parents[1] / "grid.yaml"


def test_the_plan_says_of_every_pair_whether_it_goes_and_why_not(tmp_path):
    plan = make_plan(GRID, results=tmp_path)
    asked = {(p.cell.encoder.name, str(p.cell.estimator)): p for p in plan.cells}
    runs = {pair for pair, planned in asked.items() if planned.action == "run"}
    assert {estimator for encoder, estimator in runs if encoder == "none"} == {"mmd-net"}
    assert {estimator for encoder, estimator in runs if encoder == "gaussian"} == {e for _, e in asked}
    reason = asked["none", "wae-mmd"].reason
    assert reason.startswith("estimator wae-mmd needs pathwise, which is not offered by")
    named = {planned.cell.estimator.name for planned in plan.cells}
    assert named == {*vbench_estimators(), "reparam", "renyi"}


@pytest.mark.parametrize("latent", ["bernoulli[latent=4]", "categorical[latent=2,classes=3]"])
def test_discrete_latents_are_served_by_what_needs_no_path(latent):
    prior = latent.partition("[")[0]
    served = set()
    for name in vbench_estimators():
        try:
            build(dataset="digits", encoder=latent, decoder="bernoulli", prior=prior, estimator=name)
            served.add(name)
        except Incompatible as reason:
            assert "needs" in str(reason)  # noqa: PT017
    assert served == {"cubo", "tvo", "wake-sleep"}


def test_measures_of_a_posterior_are_skipped_where_there_is_none():
    built = build(
        dataset="digits", encoder="none[latent=3]", decoder="bernoulli", prior="standard-normal", estimator="mmd-net"
    )
    assert built.offers.isdisjoint({Trait.POSTERIOR, Trait.PROPER_WEIGHT, Trait.DENSITY, Trait.PATHWISE})
    assert set(missing(built, Measure())) == {
        *("elbo", "rate", "distortion", "active_units", "log_likelihood", "inference_gap"),
        *("mutual_information", "mutual_information_cap", "aggregate_kl"),
    }
    batch = Batch((built.data.test[:20] > 127).float(), torch.arange(20))
    (bound,) = diagnose(built.model, built.estimator, [batch], samples=2, measures={"bound"})
    assert bound.metric == "bound"
    assert -1 < bound.value < 0
    other = build(
        dataset="digits", encoder="gaussian", decoder="bernoulli", prior="standard-normal", estimator="reparam"
    )
    assert missing(other, Measure()) == {}
    assert Trait.POSTERIOR in other.offers


def test_no_encoder_has_no_posterior():
    encoder = NoEncoder(3)
    assert (encoder.z, encoder.offers, list(encoder.parameters())) == (Space((3,)), frozenset(), [])
    assert type(encoder).forward is Encoder.forward
    x = Space((4,), "binary")
    model = Model(encoder, BernoulliDecoder(x, encoder.z, torch.full((4,), 0.3)), StandardNormalPrior(encoder.z))
    with pytest.raises(NotImplementedError, match="NoEncoder must define forward"):
        model.posterior(Batch(torch.zeros(2, 4), torch.arange(2)))
