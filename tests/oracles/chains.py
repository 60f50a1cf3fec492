"""Short chains for the particle oracle, and a plain particle filter's way of drawing ancestors."""

import itertools
import math

import torch
from torch import nn

from vbench.oracles import state_space
from vbench.oracles.state_space import Histories, Markov, Particles

METHODS = {
    "never": Particles(2, "never"),
    "always": Particles(2, "always"),
    "adaptive": Particles(2, "adaptive", threshold=0.8),
    "stratified": Particles(2, "always", "stratified"),
    "systematic": Particles(2, "always", "systematic"),
    "adaptive systematic": Particles(2, "adaptive", "systematic", threshold=0.8),
    "three": Particles(3, "always"),
    "three adaptive": Particles(3, "adaptive", threshold=0.7),
    "three stratified": Particles(3, "always", "stratified"),
    "three systematic": Particles(3, "always", "systematic"),
}


def toy(name):
    """Small enough for the method's number of outcomes."""
    return Toy(states=2, steps=2 if name == "three" else 3) if METHODS[name].count == 3 else Toy()


class Toy(nn.Module):
    """B = 2 sequences of T = 3 symbols out of 4, and a proposal of its own for every datum and step."""

    def __init__(self, states=3, steps=3):
        super().__init__()
        self.x = torch.tensor([[2, 0, 3], [1, 1, 2]])[:, :steps]
        size = len(self.x)
        shapes = {
            "initial": (states,),
            "transition": (states, states),
            "emission": (states, 4),
            "q_initial": (size, states),
            "q_transition": (size, steps - 1, states, states),
        }
        generator = torch.Generator().manual_seed(states)
        for name, shape in shapes.items():
            logits = torch.randn(shape, dtype=torch.float64, generator=generator)
            self.register_parameter(name, nn.Parameter(0.2 + 1.2 * logits))

    def prior(self):
        return Markov(self.initial.log_softmax(-1), self.transition.log_softmax(-1))

    def proposal(self):
        return Markov(self.q_initial.log_softmax(-1), self.q_transition.log_softmax(-1))

    def likelihood(self, mask=None):
        return state_space.emissions(self.emission.log_softmax(-1), self.x, mask)

    def histories(self):
        return Histories.of_chain(self.prior(), self.proposal(), self.likelihood())

    def evidence(self):
        return state_space.log_evidence(self.prior(), self.likelihood())

    def sequences(self):
        """Log p(x, z) and log q(z | x) of every sequence of states, last state fastest, ``[S^T, B]`` each."""
        (p, q), x = ((chain.log_initial, chain.log_transition) for chain in (self.prior(), self.proposal())), self.x
        log_emission = self.emission.log_softmax(-1)
        joint, density = [], []
        for z in itertools.product(range(len(self.initial)), repeat=x.shape[1]):
            log_p = p[0][z[0]] + sum(p[1][z[t - 1], z[t]] for t in range(1, len(z)))
            joint.append(log_p + sum(log_emission[z[t], x[:, t]] for t in range(len(z))))
            density.append(q[0][:, z[0]] + sum(q[1][:, t - 1, z[t - 1], z[t]] for t in range(1, len(z))))
        return torch.stack(joint), torch.stack(density)


def assert_same(found, expected, **tolerances):
    assert found.keys() == expected.keys()
    for name in found:
        torch.testing.assert_close(
            found[name], expected[name], msg=lambda text, name=name: f"{name}: {text}", **tolerances
        )


def drawn_ancestors(weights, particles, generator):
    """Ancestors ``[R, N]`` drawn for weights ``[R, N]``."""
    runs, count = weights.shape
    if particles.scheme == "multinomial":
        places = torch.rand(runs, count, dtype=torch.float64, generator=generator)
    else:
        width = 1 if particles.scheme == "systematic" else count
        noise = torch.rand(runs, width, dtype=torch.float64, generator=generator)
        places = (torch.arange(count) + noise) / count
    return torch.searchsorted(weights.cumsum(1), places, right=True).clamp(max=count - 1)


def resampled(log_w, particles, generator):
    """Ancestors and log weights after it, for the runs that resample and for those that do not."""
    runs, count = log_w.shape
    if particles.schedule == "never":
        return torch.arange(count).expand(runs, count), log_w
    chosen = torch.ones(runs, 1, dtype=torch.bool)
    if particles.schedule == "adaptive":
        chosen = 1 / log_w.exp().square().sum(1, keepdim=True) < particles.threshold * count
    ancestors = torch.where(chosen, drawn_ancestors(log_w.exp(), particles, generator), torch.arange(count))
    return ancestors, torch.where(chosen, -math.log(count), log_w)


class Gaussian(nn.Module):
    """z_1 ~ N(m, 1), z_2 ~ N(a z_1, 1), x_t ~ N(c z_t, .5); q_t = N(u_t + v_t z_t-1, s_t^2)."""

    x = (0.7, -0.4)

    def __init__(self):
        super().__init__()
        self.prior = nn.Parameter(torch.tensor([0.4, 0.8, 0.9], dtype=torch.float64))  # m, a, c
        self.shift = nn.Parameter(torch.tensor([0.6, -0.3], dtype=torch.float64))
        self.slope = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
        self.log_scale = nn.Parameter(torch.tensor([-0.2, -0.3], dtype=torch.float64))

    def step(self, t, past, noise):
        """The state that noise leads to, and log alpha there."""
        m, a, c = self.prior
        scale = self.log_scale[t].exp()
        z = self.shift[t] + (self.slope * past if t else 0) + scale * noise
        log_q = -0.5 * noise.square() - self.log_scale[t]
        log_p = -0.5 * (z - (a * past if t else m)).square()
        log_x = -0.5 * (self.x[t] - c * z).square() / 0.5 - 0.5 * math.log(2 * math.pi * 0.5)
        return z, log_p + log_x - log_q

    def histories(self, points, log_mass):
        z, tables = torch.zeros(1, 1, dtype=torch.float64), []
        for t in range(2):
            z, log_alpha = self.step(t, z.reshape(-1, 1), points[None])
            tables.append(log_alpha[None])
        return Histories([log_mass.expand(1, len(points) ** t, -1) for t in range(2)], tables)

    def runs(self, particles, runs, generator):
        """Log p-hat ``[runs]`` of a plain filter; autograd sees the path of the draws, not the ancestors."""
        z = torch.zeros(runs, particles.count, dtype=torch.float64)
        log_w, estimate = torch.full_like(z, -math.log(particles.count)), 0
        for t in range(2):
            if t:
                with torch.no_grad():
                    ancestors, _ = resampled(log_w, particles, generator)
                log_w = torch.full_like(z, -math.log(particles.count)) if particles.schedule == "always" else log_w
                z = z.gather(1, ancestors)
            z, log_alpha = self.step(t, z, torch.randn(z.shape, dtype=z.dtype, generator=generator))
            growth = (log_w + log_alpha).logsumexp(1)
            log_w, estimate = log_w + log_alpha - growth[:, None], estimate + growth
        return estimate


def nodes(count):
    """Gauss-Hermite nodes and log masses by way of the eigenvalues of the Hermite recurrence."""
    off = torch.arange(1, count, dtype=torch.float64).sqrt().diag(1)
    points, vectors = torch.linalg.eigh(off + off.mT)
    log_mass = 2 * vectors[0].abs().log()
    return points, log_mass - log_mass.logsumexp(0)
