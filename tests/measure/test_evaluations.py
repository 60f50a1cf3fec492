"""Cost counted as it is made: what an encoder asks of the decoder is paid for like what the estimator asks."""

import pytest
import torch

from tests import toys
from tests.measure.toys import value_of
from vbench.builtin.priors.standard_normal import StandardNormalPrior
from vbench.estimators.dreg import dreg
from vbench.estimators.reparam import reparam
from vbench.estimators.rloo import rloo
from vbench.families import Bernoulli, DiagonalNormal
from vbench.measure.evaluations import decoder_evaluations
from vbench.measure.gradient_metrics import gradient_measurements
from vbench.model import Model
from vbench.testing.chains import chain, chain_batch
from vbench.types import Decoder, Encoder, Space, Trait


class Consulting(Encoder):
    """A Gaussian that looks at the decoder ``asks`` times before it draws, by one sample each."""

    offers = frozenset({Trait.PATHWISE, Trait.DENSITY, Trait.NORMALIZED})

    def __init__(self, x: Space, asks: int, restless: bool = False) -> None:
        super().__init__()
        self.z, self.asks, self.restless, self.calls = Space((2,)), asks, restless, 0
        self.net = torch.nn.Linear(x.size, 4)

    def forward(self, batch, model):
        loc, raw = self.net(batch.x.flatten(1)).chunk(2, -1)
        self.calls += 1
        for _ in range(self.asks + (self.calls % 2 if self.restless else 0)):
            loc = loc + 0.01 * model.log_joint(batch, loc[None])[0, :, None]
        return DiagonalNormal(loc, raw.exp())


def consulting(**given):
    plain = toys.gaussian()
    return Model(Consulting(toys.X, **given), plain.decoder, plain.prior).double()


@pytest.mark.parametrize(("estimator", "posteriors"), [(reparam(k=3), 1), (dreg(k=3), 2), (rloo(k=3), 1)])
def test_an_encoder_that_asks_the_decoder_is_counted_as_often_as_posteriors_are_made(estimator, posteriors):
    assert decoder_evaluations(toys.gaussian(), estimator, toys.batch()) == 3
    model = consulting(asks=4)
    assert decoder_evaluations(model, estimator, toys.batch()) == 3 + 4 * posteriors
    assert model.encoder.calls == 0, "a copy is counted on"
    assert not model.decoder._forward_pre_hooks


def test_where_the_number_varies_it_is_a_mean():
    assert decoder_evaluations(consulting(asks=2, restless=True), reparam(k=3), toys.batch()) == 5.5


def test_steps_of_a_sequence_are_shares():
    assert decoder_evaluations(chain(), reparam(k=3), chain_batch()) == pytest.approx(3)


class Step(torch.nn.Module):
    """Adds what it makes of a latent to what there is."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Linear(1, toys.X.size)

    def forward(self, z, canvas):
        return canvas + self.net(z)


class Stepwise(Decoder):
    """Made of steps that an encoder may take too."""

    def __init__(self) -> None:
        super().__init__()
        self.step = Step()

    def forward(self, z, batch, model):
        canvas = torch.zeros((), dtype=z.dtype)
        for latent in z.unbind(2):
            canvas = self.step(latent, canvas)
        return Bernoulli(canvas)


class Following(Encoder):
    """Takes all of the decoder's steps but the last, or (``hides``) what is inside them."""

    offers = frozenset({Trait.PATHWISE, Trait.DENSITY, Trait.NORMALIZED})

    def __init__(self, hides: bool) -> None:
        super().__init__()
        self.z, self.hides = Space((4, 1)), hides
        self.net = torch.nn.Linear(toys.X.size, 2)

    def forward(self, batch, model):
        loc, raw = self.net(batch.x).chunk(2, -1)
        step, canvas = model.decoder.step, torch.zeros((), dtype=loc.dtype)
        for _ in range(3):
            canvas = step.forward(loc[None], canvas) if self.hides else step(loc[None], canvas)
        loc = (loc + 0.01 * canvas[0].sum(-1, keepdim=True))[..., None].expand(-1, 4, 1)
        return DiagonalNormal(loc, raw.exp()[..., None].expand_as(loc))


def test_steps_that_an_encoder_takes_too_are_shares():
    for hides, more in ((False, 3 / 4), (True, 0)):
        model = Model(Following(hides), Stepwise(), StandardNormalPrior(Space((4, 1)))).double()
        for estimator, posteriors in ((reparam(k=3), 1), (dreg(k=3), 2)):
            assert decoder_evaluations(model, estimator, toys.batch()) == pytest.approx(3 + more * posteriors)
        assert not model.decoder.step._forward_pre_hooks


def test_gradient_metrics_have_it():
    batches = [toys.batch(), toys.batch(size=3)]
    rows = gradient_measurements(consulting(asks=4), reparam(k=3), iter(batches), draws=4)
    assert value_of(rows, "function_evaluations").value == 7
