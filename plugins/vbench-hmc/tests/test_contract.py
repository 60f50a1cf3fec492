"""What an encoder promises besides its weight: traits, precision, transforms, evaluation without gradients."""

import pytest
import torch
from torch.func import grad, vmap
from vbench_hmc.hvae import HVAE
from vbench_hmc.hvi import HVI
from vbench_hmc.langevin import Langevin

from vbench import ELBO, IWAE, Batch, Incompatible, Pathwise, Renyi, Rng, Trait, build, frozen, gradient_moments
from vbench.measure.evaluations import decoder_evaluations
from vbench.testing import models

BATCH = models.batch()
FACTORIES = pytest.mark.parametrize("factory", [HVI, HVAE, Langevin])
NAMES = pytest.mark.parametrize("name", ["hvi", "hvae", "langevin"])


def cell(encoder, estimator):
    return build(
        dataset="digits",
        encoder=f"{encoder}[latent=3,hidden=[8]]",
        decoder="bernoulli[hidden=[8]]",
        prior="standard-normal",
        estimator=estimator,
    )


@NAMES
def test_what_goes_and_what_does_not(name):
    for estimator in ("reparam", "iwae[k=3]", "renyi[k=3]", "hmc-dlgm", "l2hmc"):
        made = cell(name, estimator)
        batch = Batch((made.data.train[:4] > 127).float(), torch.arange(4))
        estimate = made.estimator(made.model, batch, Rng(1))
        assert estimate.surrogate.shape == (4,)
        estimate.surrogate.mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in made.model.parameters())
    for estimator in ("stl", "dreg", "reinforce", "rloo[k=2]"):
        with pytest.raises(Incompatible, match=r"needs .*density.* which is not offered by"):
            cell(name, estimator)


@FACTORIES
def test_it_offers_paths_and_weights_alone(factory, around):
    model = around(factory)
    assert model.encoder.offers == {Trait.PATHWISE, Trait.PROPER_WEIGHT, Trait.AMORTIZED}
    assert not hasattr(model.posterior(BATCH), "log_prob")


@FACTORIES
def test_bounds_are_ordered(factory, around):
    """ELBO below Renyi below IWAE, of eight samples each, below the evidence."""
    model = around(factory, size=0.3)
    line = torch.linspace(-14, 14, 2001, dtype=torch.float64)[:, None, None].expand(-1, 3, 1)
    log_joint = model.log_joint(BATCH, line).detach()
    evidence = (log_joint.logsumexp(0) + (line[1, 0, 0] - line[0, 0, 0]).log()).mean()
    draw = model.posterior(BATCH).draw(Rng(1), 4000)
    log_w = (model.log_joint(BATCH, draw.z) - draw.log_q).detach().reshape(8, -1)
    values = [bound(log_w).mean() for bound in (ELBO(), Renyi(0.5), IWAE())]
    assert values[0] < values[1] < values[2] < evidence
    assert evidence - values[2] < 0.5 * (evidence - values[0])


@FACTORIES
def test_without_gradients_it_draws_the_same(factory, around):
    model = around(factory)
    live = model.posterior(BATCH).draw(Rng(1), 4)
    with torch.no_grad():
        blind = model.posterior(BATCH).draw(Rng(1), 4)
        assert not blind.z.requires_grad
    assert torch.allclose(live.z, blind.z)
    assert torch.allclose(live.log_q, blind.log_q)
    still = frozen(model).posterior(BATCH).draw(Rng(1), 4)
    assert torch.equal(still.z, live.z)
    assert not still.z.requires_grad
    assert live.z.requires_grad


@FACTORIES
def test_precision(factory, around):
    for dtype in (torch.float32, torch.float64):
        model = around(factory).to(dtype)
        draw = model.posterior(BATCH._replace(x=BATCH.x.to(dtype))).draw(Rng(1), 2)
        assert draw.z.dtype == draw.log_q.dtype == dtype


@FACTORIES
def test_vmap(factory, around):
    model = around(factory)
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    estimator = Pathwise(ELBO(), 2)

    def loss(parameters, key):
        return torch.func.functional_call(_Call(model, estimator), parameters, (key,))

    named = {f"model.{name}": p for name, p in parameters.items()}
    keys = torch.arange(3)
    together = vmap(grad(loss), (None, 0), randomness="error")(named, keys)
    for i, key in enumerate(keys):
        value = estimator(model, BATCH, Rng(int(key))).surrogate.sum()
        alone = torch.autograd.grad(value, list(model.parameters()), allow_unused=True, materialize_grads=True)
        for name, g in zip(parameters, alone, strict=True):
            assert torch.allclose(together[f"model.{name}"][i], g, rtol=1e-8, atol=1e-10)


class _Call(torch.nn.Module):
    def __init__(self, model, estimator):
        super().__init__()
        self.model, self.estimator = model, estimator

    def forward(self, key):
        return self.estimator(self.model, BATCH, Rng(key)).surrogate.sum()


@NAMES
def test_gradient_variance_is_measured(name):
    made = cell(name, "reparam")
    batch = Batch((made.data.train[:5] > 127).float(), torch.arange(5))
    moments = gradient_moments(made.model, made.estimator, batch, draws=40)
    by_loop = gradient_moments(made.model, made.estimator, batch, draws=40, method="loop")
    for part in ("encoder", "decoder"):
        ratio = moments.variance[part] / by_loop.variance[part]
        assert 0.5 < ratio < 2


def test_a_step_beyond_its_limit_is_refused():
    with pytest.raises(ValueError, match=r"step must be below max_step, not 0\.6 and 0\.5"):
        HVAE(models.X, step=0.6)


@pytest.mark.parametrize(
    ("factory", "given", "asked"),
    [
        (HVI, {"updates": 2, "leapfrog": 3}, 7),
        (HVAE, {"leapfrog": 3}, 4),
        (Langevin, {"steps": 3}, 4),
        (Langevin, {"steps": 3, "annealed": True}, 6),
    ],
    ids=["hvi", "hvae", "langevin", "annealed"],
)
def test_evaluations_inside_a_draw_are_counted(around, factory, given, asked):
    model, batch = around(factory, **given), models.batch()
    assert decoder_evaluations(model, Pathwise(IWAE(), 2), batch) == 2 + 2 * asked
