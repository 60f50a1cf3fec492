"""Wrong on purpose: each is a published or likely mistake, which the exactness test has to catch."""

import torch

from tests import toys
from vbench.bounds import ELBO, IWAE, Renyi
from vbench.estimators.controls import LearnedBaseline
from vbench.estimators.doubly import DoublyReparameterized
from vbench.estimators.pathwise import AnalyticKL, Pathwise
from vbench.estimators.score import Score
from vbench.model import frozen
from vbench.types import Estimate, Estimator


class Twin(Estimator):
    """K draws z, log weights, and a wrong surrogate made of them."""

    def __init__(self, bound, k):
        super().__init__()
        self.bound, self.k = bound, k


class DetachedScale(Twin):
    """The path through the scale is cut."""

    def forward(self, model, batch, rng):
        q = model.posterior(batch)
        z = q.loc + q.scale.detach() * rng.normal(self.k, *q.loc.shape, dtype=q.loc.dtype)
        value = self.bound(model.log_joint(batch, z) - q.log_prob(z))
        return Estimate(value.detach(), value)


class NoPath(Twin):
    """The draws are detached: only the direct term is left."""

    def forward(self, model, batch, rng):
        q = model.posterior(batch)
        z = q.draw(rng, self.k).z.detach()
        value = self.bound(model.log_joint(batch, z) - q.log_prob(z))
        return Estimate(value.detach(), value)


class Scaled(Estimator):
    """Everything right but a factor."""

    def __init__(self, inner, factor):
        super().__init__()
        self.inner, self.factor, self.k, self.bound = inner, factor, inner.k, inner.bound

    def forward(self, model, batch, rng):
        value, surrogate, _ = self.inner(model, batch, rng)
        return Estimate(value, self.factor * surrogate)


class SwappedKL(AnalyticKL):
    """KL(p || q) for KL(q || p)."""

    def forward(self, model, batch, rng):
        q, p = model.posterior(batch), model.prior_density(batch)
        value = model.log_likelihood(batch, q.draw(rng, self.k).z).mean(0) - p.kl(q)
        return Estimate(value.detach(), value)


class MissingEntropyPath(Twin):
    """STL that drops log q altogether in place of its score only."""

    def forward(self, model, batch, rng):
        draw = model.posterior(batch).draw(rng, self.k)
        value = self.bound(model.log_joint(batch, draw.z) - draw.log_q.detach())
        return Estimate(value.detach(), value)


class FrozenPath(Twin):
    """A frozen q under the bound's plain gradient: sticking the landing beyond the ELBO."""

    def forward(self, model, batch, rng):
        z = model.posterior(batch).draw(rng, self.k).z
        value = self.bound(model.log_joint(batch, z) - frozen(model).posterior(batch).log_prob(z))
        return Estimate(value.detach(), value)


class FrozenModelPath(Twin):
    """STL with the prior frozen too, so that its own use of the encoder gets no gradient."""

    def forward(self, model, batch, rng):
        z, stop = model.posterior(batch).draw(rng, self.k).z, frozen(model)
        prior = stop.prior_density(batch).log_prob(z)
        value = self.bound(model.log_likelihood(batch, z) + prior - stop.posterior(batch).log_prob(z))
        return Estimate(value.detach(), value)


class NaiveWeights(Twin):
    """Self-normalised weights times log weights, the weights not detached (AntixK/PyTorch-VAE, issue 34)."""

    def forward(self, model, batch, rng):
        draw = model.posterior(batch).draw(rng, self.k)
        log_w = model.log_joint(batch, draw.z) - draw.log_q
        return Estimate(self.bound(log_w).detach(), (log_w.softmax(0) * log_w).sum(0))


class WrongAxis(Twin):
    """Weights normalised over the batch."""

    def forward(self, model, batch, rng):
        draw = model.posterior(batch).draw(rng, self.k)
        log_w = model.log_joint(batch, draw.z) - draw.log_q
        return Estimate(self.bound(log_w).detach(), (log_w.detach().softmax(1) * log_w).sum(0))


class SquaredEverywhere(Twin):
    """DReG whose decoder and prior get the squared weights too."""

    def forward(self, model, batch, rng):
        z = model.posterior(batch).draw(rng, self.k).z
        log_w = model.log_joint(batch, z) - frozen(model).posterior(batch).log_prob(z)
        return Estimate(self.bound(log_w).detach(), (log_w.detach().softmax(0).square() * log_w).sum(0))


class Other(Estimator):
    """Another estimator's gradient under this one's name: ``inner`` claims ``bound``."""

    def __init__(self, inner, bound):
        super().__init__()
        self.inner, self.k, self.bound = inner, inner.k, bound

    def forward(self, model, batch, rng):
        return self.inner(model, batch, rng)


class SumExp:
    """IWAE without log K: a constant that no gradient shows."""

    linear, smooth, kind = False, True, "none"

    def __call__(self, log_w):
        return log_w.logsumexp(0)


class Unscaled:
    """Renyi without 1 / (1 - alpha)."""

    linear, smooth, kind = False, True, "none"

    def __init__(self, alpha):
        self.alpha = alpha

    def __call__(self, log_w):
        return (1 - self.alpha) * Renyi(self.alpha)(log_w)


class NoDirectTerm(Score):
    """Only the score term: decoder and prior never learn."""

    def forward(self, model, batch, rng):
        value, surrogate, _ = super().forward(_FrozenParts(model), batch, rng)
        return Estimate(value, surrogate)


class _FrozenParts:
    def __init__(self, model):
        self.posterior, self.log_joint = model.posterior, frozen(model).log_joint


class FlippedSign(Twin):
    """The likelihood ratio of the other outcome."""

    def forward(self, model, batch, rng):
        q = model.posterior(batch)
        z = q.draw(rng, self.k).z.detach()
        score = q.log_prob(z)
        log_w = model.log_joint(batch, z) - score.detach()
        return Estimate(self.bound(log_w).detach(), (log_w - log_w.detach() * score).mean(0))


class OwnSample(torch.nn.Module):
    """A mean over all samples, the corrected one included."""

    def forward(self, log_w, batch):
        return log_w.mean(0).expand_as(log_w), torch.zeros_like(log_w[0])


class Uncontrolled(Score):
    """A score rule with any control, the constructor's refusals left aside."""

    def __init__(self, bound, k, control):
        super().__init__(ELBO(), k, control)
        self.bound = bound


class Leaky(LearnedBaseline):
    """A baseline whose loss reaches the model."""

    def forward(self, log_w, batch):
        stand_in, _ = super().forward(log_w, batch)
        return stand_in, (log_w - stand_in).square().mean(0)


class LeakyScore(Score):
    """The control sees the log weights with their graph."""

    def forward(self, model, batch, rng):
        q = model.posterior(batch)
        z = q.draw(rng, self.k).z.detach()
        score = q.log_prob(z)
        log_w = model.log_joint(batch, z) - score.detach()
        stand_in, loss = self.control(log_w, batch)
        signal = (log_w.detach() - stand_in) / self.k
        return Estimate(log_w.mean(0).detach(), (signal * score).sum(0) + log_w.mean(0) - loss)


class NoScoreTerm(Twin):
    """VIMCO without its score term."""

    def forward(self, model, batch, rng):
        q = model.posterior(batch)
        z = q.draw(rng, self.k).z.detach()
        value = self.bound(model.log_joint(batch, z) - q.log_prob(z))
        return Estimate(value.detach(), value)


class NoWeightTerm(Twin):
    """VIMCO whose direct term leaves out its part in q, which has mean zero on a linear bound only."""

    def forward(self, model, batch, rng):
        q = model.posterior(batch)
        z = q.draw(rng, self.k).z.detach()
        score = q.log_prob(z)
        log_w = model.log_joint(batch, z) - score.detach()
        value = self.bound(log_w)
        others = (log_w.sum(0) - log_w).detach() / (self.k - 1)
        own = torch.eye(self.k, dtype=torch.bool)[..., None]
        without = torch.stack([self.bound(torch.where(row, others, log_w.detach())) for row in own])
        return Estimate(value.detach(), ((value.detach() - without) * score).sum(0) + value)


GRADIENTS = {"encoder", "decoder", "prior"}
EVERYTHING = {"value", *GRADIENTS}

# name: (model, the parts that must fail and no others, factory)
TWINS = {
    "reparam": [
        ("mixture", {"encoder"}, lambda: DetachedScale(ELBO(), 1)),
        ("mixture", {"encoder"}, lambda: NoPath(ELBO(), 1)),
        ("mixture", GRADIENTS, lambda: Scaled(Pathwise(ELBO(), 3), 1.05)),
        ("normal", {"value", "encoder", "prior"}, lambda: SwappedKL(2)),
    ],
    "stl": [
        ("mixture", {"encoder"}, lambda: MissingEntropyPath(ELBO(), 1)),
        ("vamp", {"encoder", "prior"}, lambda: FrozenModelPath(ELBO(), 1)),
    ],
    "iwae": [
        ("mixture", EVERYTHING, lambda: Other(Pathwise(ELBO(), 2), IWAE())),
        ("mixture", GRADIENTS, lambda: NaiveWeights(IWAE(), 2)),
        ("mixture", GRADIENTS, lambda: WrongAxis(IWAE(), 2)),
        ("mixture", {"value"}, lambda: Other(Pathwise(SumExp(), 2), IWAE())),
        ("line", GRADIENTS, lambda: Scaled(Pathwise(IWAE(), 3), 1.05)),
    ],
    "dreg": [
        ("mixture", {"decoder", "prior"}, lambda: SquaredEverywhere(IWAE(), 2)),
        ("mixture", {"encoder"}, lambda: FrozenPath(IWAE(), 2)),
        ("vamp", {"encoder", "prior"}, lambda: FrozenModelPath(IWAE(), 2)),
        ("mixture", GRADIENTS, lambda: Scaled(DoublyReparameterized(IWAE(), 2), 1.05)),
    ],
    "renyi": [
        ("mixture", EVERYTHING, lambda: Other(Pathwise(Renyi(0.5), 2), Renyi(-0.5))),
        ("mixture", EVERYTHING, lambda: Other(Pathwise(Unscaled(0.5), 2), Renyi(0.5))),
    ],
    "reinforce": [
        ("binary", {"decoder", "prior"}, lambda: NoDirectTerm(ELBO(), 1)),
        ("binary", {"encoder"}, lambda: FlippedSign(ELBO(), 1)),
        ("binary", {"encoder"}, lambda: NoPath(ELBO(), 1)),
    ],
    "nvil": [("binary", {"decoder", "prior"}, lambda: LeakyScore(ELBO(), 1, Leaky(toys.X, 3)))],
    "rloo": [
        ("binary", {"encoder"}, lambda: Score(ELBO(), 4, OwnSample())),
        ("categorical", {"encoder"}, lambda: Score(ELBO(), 2, OwnSample())),
    ],
    "vimco": [
        ("binary", {"encoder"}, lambda: NoScoreTerm(IWAE(), 3)),
        ("binary", {"encoder"}, lambda: NoWeightTerm(IWAE(), 2)),
        ("mixture", {"encoder"}, lambda: Uncontrolled(IWAE(), 2, OwnSample())),
    ],
}
