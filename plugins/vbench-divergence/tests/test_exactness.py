"""Every estimator of this package, and a wrong twin of each, against exact values and gradients, part by part."""

import pytest
import torch
from torch.nn import functional
from vbench_divergence import mmd, vbench_estimators
from vbench_divergence.beta import Beta
from vbench_divergence.cubo import Chi
from vbench_divergence.free_bits import FreeBits, _rates
from vbench_divergence.held import Held
from vbench_divergence.infovae_mmd import InfoVAEMMD
from vbench_divergence.jvi import Jackknife
from vbench_divergence.kl_annealing import KLAnnealing
from vbench_divergence.miwae import MIWAE, averaged
from vbench_divergence.mmd_net import MMDNet
from vbench_divergence.piwae import PIWAE
from vbench_divergence.thermodynamic import Thermodynamic, schedule
from vbench_divergence.tvo import Covariance
from vbench_divergence.wae_gan import WAEGAN
from vbench_divergence.wae_mmd import WAEMMD
from vbench_divergence.wake_sleep import WakeSleep

from tests import toys
from vbench import ELBO, IWAE, Batch, Combined, Estimate, Pathwise, Renyi, Rng, Space, moving
from vbench.rng import derive
from vbench.testing.cases import CASES as MODELS
from vbench.testing.procedure import ALPHA, Accumulator, examine
from vbench.testing.replicates import Sampler

ESTIMATORS = vbench_estimators()
WHERE = {case.name: case for case in MODELS}
N = 4096
POINTS = schedule(3, 0.1, "log")


def slow(name, where, given):
    """With other parameters or on a model more."""
    return pytest.param(name, where, given, marks=pytest.mark.slow)


CASES = [
    slow("beta", "line", {"beta": 3.0}),
    ("beta", "line", {"beta": 0.4, "kl": "analytic", "k": 2}),
    ("ciwae", "line", {"beta": 0.3, "k": 2}),
    ("cubo", "binary", {"k": 2}),
    slow("cubo", "categorical", {"k": 3, "order": 1.5}),
    ("cubo", "binary", {"k": 2, "scale": -3.0}),
    slow("free-bits", "linear-gaussian", {"nats": 0.15}),
    ("free-bits", "linear-gaussian", {"nats": 0.15, "over": "datum", "k": 2}),
    ("infovae-mmd", "line", {"alpha": 0.3, "weight": 20.0}),
    ("jvi", "line", {"order": 1, "k": 3}),
    ("kl-annealing", "line", {"kl": "analytic"}),
    ("miwae", "line", {"m": 3, "k": 2}),
    ("mmd-net", "linear-gaussian", {"k": 2, "width": 1.0}),
    ("piwae", "line", {"m": 3, "k": 1}),
    slow("piwae", "pseudo", {"m": 3, "k": 1}),
    ("tvo", "binary", {"k": 2, "partitions": 3, "first": 0.1}),
    slow("tvo", "line", {"k": 2, "partitions": 1}),
    ("tvo-reparam", "line", {"k": 2, "partitions": 3, "first": 0.1}),
    ("wae-gan", "line", {"z": Space((1,)), "cost": "likelihood"}),
    slow("wae-gan", "pseudo", {"z": Space((1,)), "k": 2}),
    ("wae-mmd", "line", {"weight": 20.0, "cost": "likelihood", "k": 2}),
    slow("wae-mmd", "pseudo", {"weight": 20.0, "kernel": "rbf"}),
    ("wake-sleep", "binary", {"k": 2}),
    slow("wake-sleep", "pseudo", {}),
]


def wrong_parts(estimator, where):
    """Parts whose mean over N replicates is not the exact one, at one part in ten thousand."""
    case, estimator = WHERE[where], toys.randomize(estimator, 5)
    truth = case.truth(estimator.bound, estimator.k, estimator.target)
    exact = {"value": truth.value, **truth.gradients}
    seen = {part: Accumulator(len(mean)) for part, mean in exact.items()}
    sampler = Sampler(case.make(), estimator, case.batch, case.rows and not estimator.coupled)
    for drawn in sampler(N, derive(type(estimator).__name__, where)):
        for part, accumulator in seen.items():
            accumulator.add(drawn.value if part == "value" else drawn.parts[part])
    return {part for part, mean in exact.items() if examine(seen[part], mean).p < ALPHA}


@pytest.mark.parametrize(("name", "where", "given"), CASES, ids=lambda p: str(p).strip("{}").replace("'", ""))
def test_value_and_gradient_of_every_part_are_exact(name, where, given):
    estimator = ESTIMATORS[name](**given)
    assert estimator.unbiased
    assert wrong_parts(estimator, where) == set()


class LogForm(Chi):
    """Powers normalised by their own sum: the gradient of log E[w^n], called that of the exponential form."""

    def __call__(self, log_p, log_q):
        log_w = (log_p - log_q).detach()
        return ((self.order * log_w).softmax(0) * log_q).sum(0) / 2 + (log_w.softmax(0) * log_p).sum(0)


class Descending(Chi):
    """The encoder ascends the upper bound."""

    def __call__(self, log_p, log_q):
        return super().__call__(log_p, 2 * log_q.detach() - log_q)


class Uncorrected(Covariance):
    """A sample covariance over K, not K - 1."""

    def __call__(self, log_p, log_q):
        live = log_p - log_q
        centred = (live - live.mean(0)).detach()
        return (live + centred * log_q).mean(0)


class LiveWeights(Covariance):
    """Weights that carry a gradient besides the covariance: counted twice."""

    def __call__(self, log_p, log_q):
        return super().__call__(log_p, log_q) + Thermodynamic(self.points)(log_p - log_q)


class DeadWeights(Thermodynamic):
    """Weights that carry none."""

    def __call__(self, log_w):
        found = super().__call__(log_w.detach())
        steps = zip(self.points[:-1], self.points[1:], strict=True)
        terms = [(b - a) * ((a * log_w.detach()).softmax(0) * log_w).sum(0) for a, b in steps]
        return found + (sum(terms) - sum(terms).detach())


class SwappedAxes(MIWAE):
    """Pythae: weights normalised over the estimates, not over the samples."""

    def forward(self, model, batch, rng):
        draw = model.posterior(batch).draw(rng, self.m * self.k)
        value = averaged(self.bound, model.log_joint(batch, draw.z) - draw.log_q, self.k)
        return Estimate(value.detach(), value)


class SwappedPartial(PIWAE):
    """The encoder gets the tight bound, decoder and prior the loose one."""

    def forward(self, model, batch, rng):
        draw = model.posterior(batch).draw(rng, self.m * self.k)
        log_p, log_q = model.log_joint(batch, draw.z), draw.log_q
        free = model.log_joint(batch, draw.z.detach())
        whole = self.bound(log_p - log_q) - self.bound(free - log_q.detach())
        value = averaged(self.bound, free - log_q.detach(), self.m)
        return Estimate(value.detach(), value + whole)


class SwappedShares(Combined):
    """The share of the ELBO goes to the other."""

    def __call__(self, log_w):
        return self.beta * IWAE()(log_w) + (1 - self.beta) * ELBO()(log_w)


class WrongFactor(Jackknife):
    """K - 1 times the mean of the others where their sum is meant: K - 1 over K too little."""

    def __call__(self, log_w):
        k = len(log_w)
        return k * IWAE()(log_w) - (k * IWAE()(log_w) - super().__call__(log_w)) * (k - 1) / k


class ScaledRate(Beta):
    """PyTorch-VAE: the rate times the batch's share of the data."""

    def forward(self, model, batch, rng):
        return Beta(self.beta * 0.1, self.k)(model, batch, rng)


class AllowanceOfTheSum(FreeBits):
    """One allowance for all variables together."""

    def forward(self, model, batch, rng):
        posterior = model.posterior(batch)
        fit = model.log_likelihood(batch, posterior.draw(rng, self.k).z).mean(0)
        rates = _rates(posterior, model.prior_density(batch))
        value = fit - rates.sum(1).mean().clamp(min=2 * self.nats)
        return Estimate(value.detach(), value.mean())


class EachForItself(FreeBits):
    """Each datum's rate is held against the allowance, though the batch's is claimed."""

    def forward(self, model, batch, rng):
        estimate = FreeBits(self.nats, "datum", self.k)(model, batch, rng)
        return Estimate(estimate.value, estimate.surrogate.mean())


class Backwards(KLAnnealing):
    """The weight falls."""

    def weight(self, progress):
        return 1 - super().weight(progress)


class Diagonal:
    """The statistic that pairs a sample with itself."""

    def forward(self, model, batch, rng):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mmd, "_pairs", lambda k: k.mean((-2, -1)))
            return super().forward(model, batch, rng)


class DiagonalInfoVAE(Diagonal, InfoVAEMMD):
    pass


class DiagonalNet(Diagonal, MMDNet):
    pass


class DetachedPrior(WAEMMD):
    """The prior's draws carry no gradient."""

    def forward(self, model, batch, rng):
        return super().forward(moving(model, "encoder", "decoder"), batch, rng)


class HalfCross(WAEMMD):
    """The cross term counts once."""

    def forward(self, model, batch, rng):
        value, surrogate, _ = super().forward(model, batch, rng)
        z, y = model.posterior(batch).draw(Rng(rng.key), 1).z, model.prior_density(None).draw(Rng(7), len(batch.x)).z
        extra = self.weight * mmd.kernel(z.flatten(2)[0], y.flatten(2)[:, 0], self.kernel, self.width).mean()
        return Estimate(value - extra.detach(), surrogate - extra)


class LeakyAdversary(WAEGAN):
    """The discriminator's loss reaches the encoder."""

    def forward(self, model, batch, rng):
        value, surrogate, _ = super().forward(model, batch, rng)
        z = model.posterior(batch).draw(Rng(rng.key), self.k).z
        leak = functional.logsigmoid(-self.discriminator(z.flatten(2))[..., 0]).mean(0)
        return Estimate(value, surrogate + leak)


class LucidDreams(WakeSleep):
    """Dreams are not detached: decoder and prior learn to dream what the encoder sees."""

    def _sleep(self, model, batch, rng):
        z = model.prior_density(None).draw(rng, self.k).z
        seen = Batch(model.likelihood(None, z).mean.flatten(0, 1), batch.index.repeat(self.k))
        return model.posterior(seen).log_prob(z.flatten(0, 1)[None]).reshape(self.k, -1).mean(0)


class NeverAsleep(WakeSleep):
    """The encoder is trained awake."""

    def _sleep(self, model, batch, rng):
        posterior = model.posterior(batch)
        return posterior.log_prob(posterior.draw(rng, self.k).z.detach() * 0).mean(0)


class Claiming(Pathwise):
    """The path of one bound, called that of another."""

    def __init__(self, wrong, claimed, k):
        super().__init__(claimed, k)
        self.wrong = wrong

    def forward(self, model, batch, rng):
        return Pathwise(self.wrong, self.k)(model, batch, rng)


class Targeting(Held):
    """One field, called another."""

    def __init__(self, bound, wrong, claimed, k=2):
        super().__init__(bound, claimed, k)
        self.wrong = wrong

    def forward(self, model, batch, rng):
        return Held(self.bound, self.wrong, self.k)(model, batch, rng)


ENCODER = {"encoder"}
TWINS = {
    "beta": ("line", {"value", "encoder", "prior"}, lambda: ScaledRate(3.0)),
    "ciwae": ("line", {"value"}, lambda: Claiming(SwappedShares(0.2), Combined(0.2), 2)),
    "cubo": ("binary", ENCODER, lambda: Targeting(Renyi(-1.0), LogForm(2.0), Chi(2.0))),
    "cubo, the wrong way": ("binary", ENCODER, lambda: Targeting(Renyi(-1.0), Descending(2.0), Chi(2.0))),
    "free-bits": ("linear-gaussian", {"encoder", "prior"}, lambda: EachForItself(0.15)),
    "free-bits, of the sum": ("linear-gaussian", {"encoder", "prior"}, lambda: AllowanceOfTheSum(0.15)),
    "infovae-mmd": ("line", {"value", "encoder"}, lambda: DiagonalInfoVAE(0.3, 20.0)),
    "jvi": ("line", {"value"}, lambda: Claiming(WrongFactor(1), Jackknife(1), 3)),
    "kl-annealing": ("line", {"value", "encoder", "prior"}, lambda: Backwards()),
    "miwae": ("line", {"value"}, lambda: SwappedAxes(m=3, k=2)),
    "mmd-net": ("linear-gaussian", {"value", "decoder"}, lambda: DiagonalNet(width=1.0)),
    "piwae": ("line", ENCODER, lambda: SwappedPartial(m=3, k=1)),
    "tvo": ("line", ENCODER, lambda: Targeting(ELBO(), Uncorrected((0.0, 1.0)), Covariance((0.0, 1.0)))),
    "tvo, twice": (
        "binary",
        {"encoder", "decoder"},
        lambda: Targeting(Thermodynamic(POINTS), LiveWeights(POINTS), Covariance(POINTS)),
    ),
    "tvo-reparam": ("line", ENCODER, lambda: Claiming(DeadWeights(POINTS), Thermodynamic(POINTS), 2)),
    "wae-gan": ("line", ENCODER, lambda: LeakyAdversary(Space((1,)), cost="likelihood")),
    "wae-mmd, prior": ("line", {"prior"}, lambda: DetachedPrior(20.0)),
    "wae-mmd": ("line", {"value", "encoder"}, lambda: HalfCross(20.0)),
    "wake-sleep": ("binary", ENCODER, lambda: NeverAsleep(2)),
    "wake-sleep, lucid": ("line", {"decoder", "prior"}, lambda: LucidDreams(2)),
}


@pytest.mark.parametrize("name", TWINS)
def test_a_wrong_twin_fails_where_it_is_wrong(name):
    where, parts, twin = TWINS[name]
    assert wrong_parts(twin(), where) >= parts


def test_every_estimator_has_cases_and_a_twin():
    assert (
        {getattr(case, "values", case)[0] for case in CASES}
        == {name.partition(",")[0] for name in TWINS}
        == set(ESTIMATORS)
    )


def test_annealing_goes_from_nothing_to_the_whole_rate():
    for kind in ("linear", "sigmoid"):
        weights = [KLAnnealing(0.5, kind).weight(p) for p in (0.0, 0.1, 0.25, 0.4, 0.5, 1.0)]
        assert weights == sorted(weights)
        assert weights[0] == pytest.approx(0.0, abs=1e-12)
        assert weights[2] == pytest.approx(0.5)
        assert weights[4:] == pytest.approx([1.0, 1.0])
    case = WHERE["line"]
    model, early = case.make(), case.batch._replace(progress=0.2)
    found, same = (e(model, early, Rng(3)) for e in (KLAnnealing(0.5), Beta(0.4)))
    assert torch.equal(found.surrogate, same.surrogate)


def test_one_partition_is_leave_one_out_on_the_elbo_draw_by_draw():
    model, batch = toys.binary(), toys.batch()
    surrogate = ESTIMATORS["tvo"](partitions=1, k=4)(model, batch, Rng(2)).surrogate
    z = model.posterior(batch).draw(Rng(2), 4).z
    log_p, log_q = model.log_joint(batch, z), model.posterior(batch).log_prob(z)
    log_w = (log_p - log_q).detach()
    others = (log_w.sum(0) - log_w) / 3
    written = ((log_w - others) * log_q / 4).sum(0) + (log_p - log_q).mean(0)
    parameters = list(model.parameters())
    for one, other in zip(*(torch.autograd.grad(s.mean(), parameters) for s in (surrogate, written)), strict=True):
        torch.testing.assert_close(one, other)


def test_piwae_of_one_group_is_iwae_draw_by_draw():
    model, batch = toys.gaussian(prior="vamp"), toys.batch()
    parameters = list(model.parameters())
    one, other = (e(model, batch, Rng(2)) for e in (PIWAE(m=1, k=3), Pathwise(IWAE(), 3)))
    torch.testing.assert_close(one.value, other.value)
    for a, b in zip(*(torch.autograd.grad(e.surrogate.mean(), parameters) for e in (one, other)), strict=True):
        torch.testing.assert_close(a, b)
