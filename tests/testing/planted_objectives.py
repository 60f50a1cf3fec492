"""Estimators of what is no one bound (an objective, a bound for each part), each with one likely mistake."""

from dataclasses import dataclass

from tests.testing.planted_base import Planted
from vbench.bounds import IWAE
from vbench.types import Estimate, Parts


@dataclass(frozen=True)
class Tempered:
    """Fit less twice the rate."""

    kind: str = "lower"
    linear: bool = True

    def expectation(self, model, batch, q, p):
        rate = q.log_prob - model.prior_density(batch).log_prob(q.z)
        return (q.log_mass.exp() * (model.log_likelihood(batch, q.z) - 2 * rate)).sum(0)


class Untempered(Planted):
    """Claims a rate that counts twice, and its gradient counts it once."""

    bound = Tempered()

    def forward(self, model, batch, rng):
        draw = model.posterior(batch).draw(rng, self.k)
        fit, rate = model.log_likelihood(batch, draw.z), draw.log_q - model.prior_density(batch).log_prob(draw.z)
        return Estimate((fit - 2 * rate).mean(0).detach(), (fit - rate).mean(0))


class OneBoundForAll(Planted):
    """Claims the tighter bound for decoder and prior alone, and gives it to the encoder too."""

    def __init__(self, k: int = 1) -> None:
        super().__init__(k)
        self.bound = IWAE()
        self.target = Parts((IWAE(), k), (IWAE(), 3 * k), (IWAE(), 3 * k))

    @property
    def evaluations(self):
        return 3 * self.k

    def forward(self, model, batch, rng):
        log_w = self.weights(model, batch, rng, 3 * self.k)
        value = self.bound(log_w.reshape(3, self.k, -1).movedim(1, 0).flatten(1)).reshape(3, -1).mean(0)
        return Estimate(value.detach(), self.bound(log_w))


class LooseForAll(OneBoundForAll):
    """The same mistake the other way round: decoder and prior get the encoder's looser bound."""

    def forward(self, model, batch, rng):
        log_w = self.weights(model, batch, rng, 3 * self.k)
        value = self.bound(log_w.reshape(3, self.k, -1).movedim(1, 0).flatten(1)).reshape(3, -1).mean(0)
        return Estimate(value.detach(), value)


OBJECTIVE_BUGS = {
    Untempered: ["exact[line,k=2]:encoder", "exact[linear-gaussian,k=2]:prior"],
    OneBoundForAll: ["exact[line,k=1]:encoder"],
    LooseForAll: ["exact[line,k=1]:prior"],
}
