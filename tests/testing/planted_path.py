"""Pathwise and importance-weighted estimators, each with one published or likely mistake."""

from tests.testing.planted_base import LOC, Planted
from vbench.bounds import IWAE, Renyi
from vbench.model import frozen
from vbench.targets import Wake
from vbench.types import Estimate, Trait


class PathScaled(Planted):
    """Every gradient times 1.05, by the path."""

    bound = IWAE()

    def forward(self, model, batch, rng):
        value = self.bound(self.weights(model, batch, rng))
        return Estimate(value.detach(), 1.05 * value)


class NoPath(Planted):
    """Draws are detached: no path to the encoder."""

    def forward(self, model, batch, rng):
        _, score, log_w = self.parts(model, batch, rng)
        value = (log_w + score.detach() - score).mean(0)
        return Estimate(value.detach(), value)


class DetachedLoc(Planted):
    """The mean is detached."""

    needs = LOC

    def forward(self, model, batch, rng):
        q = model.posterior(batch)
        z = q.loc.detach() + q.scale * rng.normal(self.k, *q.loc.shape, dtype=q.loc.dtype)
        value = self.bound(model.log_joint(batch, z) - q.log_prob(z))
        return Estimate(value.detach(), value)


class DetachedScale(Planted):
    """The scale is detached."""

    needs = LOC

    def forward(self, model, batch, rng):
        q = model.posterior(batch)
        z = q.loc + q.scale.detach() * rng.normal(self.k, *q.loc.shape, dtype=q.loc.dtype)
        value = self.bound(model.log_joint(batch, z) - q.log_prob(z))
        return Estimate(value.detach(), value)


class WrongAxis(Planted):
    """Log-sum-exp over the batch, not over the samples."""

    bound = IWAE()

    def forward(self, model, batch, rng):
        log_w = self.weights(model, batch, rng)
        return Estimate(self.bound(log_w).detach(), (log_w.detach().softmax(1) * log_w).sum(0))


class SwappedMK(Planted):
    """Pythae's MIWAE with one gradient estimate: normalised over an axis of length one, the plain average is left."""

    bound = IWAE()

    def forward(self, model, batch, rng):
        log_w = self.weights(model, batch, rng)[:, None]
        return Estimate(self.bound(log_w[:, 0]).detach(), (log_w.detach().softmax(1) * log_w).sum(1).mean(0))


class ReportedSum(Planted):
    """Pythae's IWAE: the right gradient, the sum of weighted log weights for the value."""

    bound = IWAE()

    def forward(self, model, batch, rng):
        log_w = self.weights(model, batch, rng)
        surrogate = (log_w.detach().softmax(0) * log_w).sum(0)
        return Estimate(surrogate.detach(), surrogate)


class Undetached(Planted):
    """PyTorch-VAE's IWAE: weights that carry a gradient."""

    bound = IWAE()

    def forward(self, model, batch, rng):
        log_w = self.weights(model, batch, rng)
        return Estimate(self.bound(log_w).detach(), (log_w.softmax(0) * log_w).sum(0))


class WorstSample(Planted):
    """PyTorch-VAE: softmax of the loss, so that the worst sample weighs most."""

    bound = IWAE()

    def forward(self, model, batch, rng):
        log_w = self.weights(model, batch, rng)
        return Estimate(self.bound(log_w).detach(), ((-log_w).softmax(0) * log_w).sum(0))


class SquaredWeights(Planted):
    """TFP's DReG: squared weights for the decoder and the prior too."""

    bound = IWAE()

    def forward(self, model, batch, rng):
        z = model.posterior(batch).draw(rng, self.k).z
        log_w = model.log_joint(batch, z) - frozen(model).posterior(batch).log_prob(z)
        return Estimate(self.bound(log_w).detach(), (log_w.detach().softmax(0).square() * log_w).sum(0))


class StickingIwae(Planted):
    """A frozen q under IWAE's plain gradient."""

    bound = IWAE()

    def forward(self, model, batch, rng):
        z = model.posterior(batch).draw(rng, self.k).z
        value = self.bound(model.log_joint(batch, z) - frozen(model).posterior(batch).log_prob(z))
        return Estimate(value.detach(), value)


class FrozenPrior(Planted):
    """STL that freezes the prior too: wrong only where the prior is made by the encoder."""

    def forward(self, model, batch, rng):
        z, stop = model.posterior(batch).draw(rng, self.k).z, frozen(model)
        log_p = model.log_likelihood(batch, z) + stop.prior_density(batch).log_prob(z)
        value = self.bound(log_p - stop.posterior(batch).log_prob(z))
        return Estimate(value.detach(), value)


class ElboAsIwae(Planted):
    """The ELBO, called IWAE."""

    bound = IWAE()

    def forward(self, model, batch, rng):
        value = self.weights(model, batch, rng).mean(0)
        return Estimate(value.detach(), value)


class ElboGradient(Planted):
    """The right IWAE value over the ELBO's gradient."""

    bound = IWAE()

    def forward(self, model, batch, rng):
        log_w = self.weights(model, batch, rng)
        return Estimate(self.bound(log_w).detach(), log_w.mean(0))


class MissingLogK(Planted):
    """Sums the weights: log K is missing from the value, the gradient is right."""

    bound = IWAE()

    def forward(self, model, batch, rng):
        value = self.weights(model, batch, rng).logsumexp(0)
        return Estimate(value.detach(), value)


class KSquared(Planted):
    """Divides by K twice."""

    def forward(self, model, batch, rng):
        log_w = self.weights(model, batch, rng)
        return Estimate(log_w.mean(0).detach(), log_w.mean(0) / self.k)


class Undeclared(Planted):
    """Renyi's bound, and does not say so."""

    bound = None

    def forward(self, model, batch, rng):
        value = Renyi(-1.0)(self.weights(model, batch, rng))
        return Estimate(value.detach(), value)


class UndeclaredValue(Planted):
    """Exactly the gradient of its own wrong value: the ELBO and a half of the entropy once more."""

    bound = None

    def forward(self, model, batch, rng):
        q = model.posterior(batch)
        z = q.draw(rng, self.k).z
        log_q = q.log_prob(z)
        value = (model.log_joint(batch, z) - 1.5 * log_q).mean(0)
        return Estimate(value.detach(), value)


class NegativeLoss(Planted):
    """Returns a loss to be descended."""

    def forward(self, model, batch, rng):
        value = self.weights(model, batch, rng).mean(0)
        return Estimate(-value.detach(), -value)


class SwappedKL(Planted):
    """KL(prior, posterior) for KL(posterior, prior)."""

    needs = frozenset({Trait.PATHWISE, Trait.KL, Trait.FACTORIZED_PRIOR})

    def forward(self, model, batch, rng):
        q, p = model.posterior(batch), model.prior_density(batch)
        value = model.log_likelihood(batch, q.draw(rng, self.k).z).mean(0) - p.kl(q)
        return Estimate(value.detach(), value)


class ScaledKL(SwappedKL):
    """PyTorch-VAE's kld_weight."""

    def forward(self, model, batch, rng):
        q, p = model.posterior(batch), model.prior_density(batch)
        value = model.log_likelihood(batch, q.draw(rng, self.k).z).mean(0) - 0.7 * q.kl(p)
        return Estimate(value.detach(), value)


class WrongPrior(Planted):
    """The prior's gradient is lost."""

    def forward(self, model, batch, rng):
        q = model.posterior(batch)
        z = q.draw(rng, self.k).z
        log_p = model.log_likelihood(batch, z) + frozen(model).prior_density(batch).log_prob(z)
        value = self.bound(log_p - q.log_prob(z))
        return Estimate(value.detach(), value)


class WakeThroughWeights(Planted):
    """Doubly reparameterised wake gradient with the factor of the bound's, squared weights."""

    bound, target = IWAE(), Wake()

    def forward(self, model, batch, rng):
        q = model.posterior(batch)
        z = q.draw(rng, self.k).z
        held = frozen(model)
        log_w = held.log_joint(batch, z) - held.posterior(batch).log_prob(z)
        weight = log_w.detach().softmax(0)
        direct = (weight * model.log_joint(batch, z.detach())).sum(0)
        return Estimate(self.bound(log_w).detach(), (weight**2 * log_w).sum(0) + direct)


# estimator -> beginnings of checks, each of which has to FAIL
PATH_BUGS = {
    PathScaled: ["exact[line,k=2]:encoder"],
    NoPath: ["exact[line,k=2]:encoder"],
    DetachedLoc: ["exact[line,k=2]:encoder"],
    DetachedScale: ["exact[line,k=2]:encoder"],
    WrongAxis: ["separable-data[linear-gaussian]", "exact[line,k=2]:encoder"],
    WrongPrior: ["exact[linear-gaussian,k=2]:prior"],
    SwappedMK: ["exact[line,k=2]:encoder"],
    ReportedSum: ["exact[line,k=2]:value"],
    Undetached: ["exact[line,k=2]:encoder"],
    WorstSample: ["exact[line,k=2]:encoder"],
    SquaredWeights: ["exact[line,k=2]:decoder"],
    StickingIwae: ["exact[line,k=2]:encoder"],
    FrozenPrior: ["exact[pseudo,k=2]:encoder"],
    ElboAsIwae: ["exact[line,k=2]:value"],
    ElboGradient: ["exact[line,k=2]:encoder"],
    MissingLogK: ["exact[line,k=2]:value"],
    KSquared: ["exact[line,k=2]:encoder"],
    Undeclared: ["exact[line,k=2]"],
    UndeclaredValue: ["exact[line,k=2]:value"],
    NegativeLoss: ["exact[line,k=2]:value"],
    SwappedKL: ["exact[line,k=2]:value"],
    ScaledKL: ["exact[line,k=2]:value"],
    WakeThroughWeights: ["exact[line,k=2]:encoder"],
}
