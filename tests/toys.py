"""Small models that nothing is special about: no zero, no symmetry, no number that occurs twice.

Batch 5, data of 4, latents of 3 (binary), 2 x 3 (categorical), 1 or 2 (Gaussian); parameters are drawn, not
initialised, so the posterior is far from the true one.
"""

import torch
from torch import nn

from vbench.builtin.datasets.tensors import TensorDataset
from vbench.builtin.decoders.bernoulli import BernoulliDecoder
from vbench.builtin.decoders.linear_gaussian import LinearGaussianDecoder
from vbench.builtin.encoders.bernoulli import BernoulliEncoder
from vbench.builtin.encoders.categorical import CategoricalEncoder
from vbench.builtin.encoders.gaussian import GaussianEncoder
from vbench.builtin.priors.bernoulli import BernoulliPrior
from vbench.builtin.priors.categorical import CategoricalPrior
from vbench.builtin.priors.gaussian_mixture import GaussianMixturePrior
from vbench.builtin.priors.standard_normal import StandardNormalPrior
from vbench.families import DiagonalNormal, NormalMixture
from vbench.model import Model
from vbench.types import Batch, Prior, Space

X = Space((4,), "binary")
REAL = Space((4,))
MEAN = torch.full((4,), 0.3)


class NormalPrior(Prior):
    """A learned diagonal normal, the closed-form KL's partner."""

    def __init__(self, z: Space) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(1, *z.shape))
        self.log_scale = nn.Parameter(torch.zeros(1, *z.shape))

    def forward(self, batch, model):
        return DiagonalNormal(self.loc, self.log_scale.exp())


class VampPrior(Prior):
    """A mixture of the encoder's own posteriors at learned inputs: the encoder has a direct part in log p."""

    def __init__(self, z: Space, inputs: int = 2) -> None:
        super().__init__()
        self.inputs = nn.Parameter(torch.zeros(inputs, X.size))

    def forward(self, batch, model):
        q = model.posterior(Batch(self.inputs, torch.arange(len(self.inputs))))
        return NormalMixture(self.inputs.new_zeros(len(self.inputs)), q.loc, q.scale)


def randomize(module: nn.Module, seed: int, size: float = 0.5) -> nn.Module:
    """Parameters drawn anew, normal with this standard deviation, in float64."""
    generator = torch.Generator().manual_seed(seed)
    module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.1 + size * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module


def batch(binary: bool = True, size: int = 5) -> Batch:
    """Data that no model made."""
    generator = torch.Generator().manual_seed(11)
    x = torch.randn(size, 4, generator=generator, dtype=torch.float64)
    return Batch((x > 0.3).double() if binary else x + 0.4, torch.arange(size))


def masked(batch: Batch) -> TensorDataset:
    """Every split a batch of bits with its mask."""
    splits = ("train", "valid", "test")
    return TensorDataset(
        *[batch.x] * 3,
        x=Space(tuple(batch.x.shape[1:]), "binary"),
        digest="",
        binarization="none",
        masks=dict.fromkeys(splits, batch.mask),
    )


def gaussian(latent: int = 2, prior: str = "mixture", size: float = 0.4) -> Model:
    """Gaussian latents, Bernoulli data through a hidden layer."""
    encoder = GaussianEncoder(X, latent, hidden=())
    decoder = BernoulliDecoder(X, encoder.z, MEAN, hidden=(3,))
    priors = {
        "mixture": lambda: GaussianMixturePrior(encoder.z, 2),
        "normal": lambda: NormalPrior(encoder.z),
        "vamp": lambda: VampPrior(encoder.z),
        "standard": lambda: StandardNormalPrior(encoder.z),
    }
    model = randomize(Model(encoder, decoder, priors[prior]()), 1, size)
    with torch.no_grad():
        encoder.net[-1].bias[latent:] -= 0.7  # narrow enough for few quadrature nodes
    return model


def binary(size: float = 0.5) -> Model:
    """Three binary latents, linear encoder, Bernoulli data through a hidden layer."""
    encoder = BernoulliEncoder(X, 3, hidden=())
    decoder = BernoulliDecoder(X, encoder.z, MEAN, hidden=(3,))
    return randomize(Model(encoder, decoder, BernoulliPrior(encoder.z)), 2, size)


def categorical(size: float = 0.5) -> Model:
    """Two categorical latents of three classes, Bernoulli data through a linear map."""
    encoder = CategoricalEncoder(X, 2, 3, hidden=())
    decoder = BernoulliDecoder(X, encoder.z, MEAN, hidden=())
    return randomize(Model(encoder, decoder, CategoricalPrior(encoder.z)), 3, size)


def linear_gaussian(latent: int = 2, prior: str = "standard") -> Model:
    """The conjugate model, with one noise scale per dimension."""
    encoder = GaussianEncoder(REAL, latent, hidden=(3,))
    decoder = LinearGaussianDecoder(REAL, encoder.z, MEAN, noise="diagonal")
    priors = {"standard": StandardNormalPrior, "normal": NormalPrior}
    return randomize(Model(encoder, decoder, priors[prior](encoder.z)), 4)
