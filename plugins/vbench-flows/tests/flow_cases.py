"""Flows with random parameters in float64, far from where they start, and steps that are wrong on purpose."""

from dataclasses import replace

import pytest
import torch
from vbench_flows.flow import FlowPrior
from vbench_flows.householder import HouseholderEncoder
from vbench_flows.iaf import IAFEncoder
from vbench_flows.maf import MAFEncoder
from vbench_flows.normalizing import Flow
from vbench_flows.nsf import NSFEncoder
from vbench_flows.planar import PlanarEncoder
from vbench_flows.radial import RadialEncoder
from vbench_flows.realnvp import RealNVPEncoder
from vbench_flows.sylvester import SylvesterEncoder
from vbench_flows.through import Affine

from vbench import Batch, Space

X = Space((4,), "binary")
ENCODERS = {
    "householder": (HouseholderEncoder, {"steps": 3}),
    "iaf": (IAFEncoder, {"context": 3, "conditioner": (6,)}),
    "maf": (MAFEncoder, {"context": 3, "conditioner": (6,)}),
    "nsf-autoregressive": (NSFEncoder, {"context": 3, "conditioner": (6,), "structure": "autoregressive"}),
    "nsf-coupling": (NSFEncoder, {"context": 3, "conditioner": (6,), "bins": 5}),
    "planar": (PlanarEncoder, {"steps": 3}),
    "radial": (RadialEncoder, {"steps": 3}),
    "realnvp": (RealNVPEncoder, {"steps": 3, "context": 3, "conditioner": (6,)}),
    "sylvester-bottleneck": (SylvesterEncoder, {"steps": 2, "bottleneck": 1}),
    "sylvester-householder": (SylvesterEncoder, {"steps": 2, "variant": "householder", "reflections": 2}),
    "sylvester-orthogonal": (SylvesterEncoder, {"steps": 2}),
    "sylvester-triangular": (SylvesterEncoder, {"steps": 2, "variant": "triangular"}),
}
# made of the steps of another: their log-determinants are checked by default, their long sums over a plane are not
ALIKE = ("nsf-autoregressive", "sylvester-bottleneck", "sylvester-householder", "sylvester-orthogonal")
PRIORS = {
    "flow-autoregressive": (FlowPrior, {"conditioner": (6,)}),
    "flow-coupling": (FlowPrior, {"structure": "coupling", "conditioner": (6,)}),
}


def few(names):
    """The same names, those made of the steps of another with the long tests only."""
    return [pytest.param(name, marks=[pytest.mark.slow] * (name in ALIKE)) for name in names]


def spread(part, size=0.7, seed=5):
    """The part in float64, its parameters moved far from their start."""
    generator = torch.Generator().manual_seed(seed)
    part.double()
    with torch.no_grad():
        for p in part.parameters():
            inputs = p.shape[-1] if p.dim() > 1 else 1
            p.add_(size * torch.randn(p.shape, generator=generator, dtype=torch.float64) / inputs**0.5)
    return part


def encoder(name, latent=2, size=0.7):
    factory, given = ENCODERS[name]
    torch.manual_seed(1)
    return spread(factory(X, latent=latent, hidden=(5,), **given), size)


def prior(name, z=None, size=0.7):
    factory, given = PRIORS[name]
    torch.manual_seed(2)
    return spread(factory(z or Space((2,)), **given), size)


def data(size=3):
    x = torch.rand(size, 4, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    return Batch((x > 0.4).double(), torch.arange(size))


class FlippedSign:
    """The log-determinant of the inverse."""

    def __init__(self, step):
        self.step = step

    def push(self, z):
        image, log_det = self.step.push(z)
        return image, -log_det

    def pull(self, z):
        found, log_det = self.step.pull(z)
        return found, -log_det


class AtTheImage:
    """The log-determinant of the next step: where z goes to, not where it comes from."""

    def __init__(self, step):
        self.step = step

    def push(self, z):
        image, _ = self.step.push(z)
        return image, self.step.push(image)[1]

    def pull(self, z):
        return self.step.pull(z)[0], self.step.push(z)[1]


class Unconstrained:
    """A planar step with u as it comes in the map, and the constrained u in the log-determinant."""

    def __init__(self, u, step):
        self.step, self.map = step, replace(step, u=u)

    def push(self, z):
        return self.map.push(z)[0], self.step.push(z)[1]

    def pull(self, z):
        return self.map.pull(z)[0], self.step.pull(z)[1]


def twisted(flow, wrong):
    """A flow whose last step with a log-determinant is wrong."""
    steps = list(flow.steps)
    where = max(i for i, step in enumerate(steps) if not isinstance(step, Affine))
    steps[where] = wrong(steps[where])
    return Flow(flow.base, steps)


class Nodes:
    """Stands in for random numbers: the noise of K samples, or of B data at one sample each, is given."""

    def __init__(self, noise):
        self.noise = noise  # [S, D]

    def normal(self, *shape, dtype=None):
        over = self.noise[:, None] if shape[0] == len(self.noise) else self.noise[None]
        return over.expand(shape)


def plane(count=201):
    """Points ``[S, 2]`` of the whole plane and the log of the area of each, by the midpoint rule in 2 tan u."""
    u = (torch.arange(count, dtype=torch.float64) + 0.5) / count * torch.pi - torch.pi / 2
    line, step = 2 * u.tan(), (2 * torch.pi / count / u.cos().square()).log()
    return torch.cartesian_prod(line, line), torch.cartesian_prod(step, step).sum(1)


def log_det(f, z, create_graph=False):
    """log|det| of a map of ``[K, B, D]`` that keeps samples apart, by autograd, ``[K, B]``."""
    z = z if z.requires_grad else z.clone().requires_grad_()
    image = f(z)
    rows = [
        torch.autograd.grad(image[..., i].sum(), z, retain_graph=True, create_graph=create_graph)[0]
        for i in range(z.shape[-1])
    ]
    return torch.linalg.slogdet(torch.stack(rows, -2)).logabsdet
