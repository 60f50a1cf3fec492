"""Two decoders whose samples and likelihood say opposite things (Theis et al. 2016, sections 3.1 and 3.2)."""

import math
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor

from vbench import Batch, Bernoulli, Decoder, Rng, Space, Trait, hookimpl, mlp


class Noisy:
    """p(x | z) that is noise with some probability.

    Attributes:
        good: the likelihood that it is otherwise, ``[K, B, *X]``.
        share: that probability.
    """

    def __init__(self, good: Bernoulli, share: float) -> None:
        self.good, self.share = good, share

    @property
    def mean(self) -> Tensor:
        """E[x | z], ``[K, B, *X]``."""
        return (1 - self.share) * self.good.mean + self.share / 2

    def log_prob(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """``[B, *X] -> [K, B]``, nats."""
        bits = (torch.ones_like(x) if mask is None else mask).flatten(1).sum(1)
        good = math.log1p(-self.share) + self.good.log_prob(x, mask)
        return torch.logaddexp(good, (math.log(self.share) - bits * math.log(2)).expand_as(good))

    def sample(self, rng: Rng) -> Tensor:
        """``[K, B, *X]``; each image is a good one or noise, as a whole."""
        good = self.good.sample(rng)
        noise = (rng.uniform(*good.shape, dtype=good.dtype) < 0.5).to(good.dtype)
        spoilt = rng.uniform(*good.shape[:2], dtype=good.dtype) < self.share
        return torch.where(spoilt.reshape(*spoilt.shape, *[1] * (good.dim() - 2)), noise, good)


class NoisyDecoder(Decoder):
    r"""A good decoder of binary pixels, and with probability s an image of coin flips instead.

    .. math:: p(x | z) = (1 - s)\, \mathrm{Bernoulli}(x;\, \sigma(\mathrm{net}(z))) + s\, 2^{-D}

    Against the good one alone its likelihood is lower by at most -log(1 - s), 4.6 nats for s = .99, while s of its
    samples are noise.

    Source: Theis, van den Oord & Bethge (2016), A Note on the Evaluation of Generative Models, arXiv:1511.01844.
    """

    needs = frozenset({Trait.data("binary")})

    def __init__(
        self,
        x: Space,
        z: Space,
        mean: Tensor,
        hidden: Annotated[Sequence[Annotated[int, Ge(1)]], "widths of the hidden layers"] = (128,),
        share: Annotated[float, Gt(0), Lt(1), "s, of the samples that are noise"] = 0.99,
    ) -> None:
        super().__init__()
        self.shape, self.share = x.shape, share
        self.net = mlp(z.size, hidden, x.size, "tanh")
        with torch.no_grad():
            self.net[-1].bias.copy_(mean.clamp(0.001, 0.999).logit().flatten())

    def forward(self, z: Tensor, batch: Batch | None, model: Any) -> Noisy:
        """p(x | z)."""
        return Noisy(Bernoulli(self.net(z.flatten(2)).unflatten(2, self.shape)), self.share)


class Copies:
    """p(x): a kept image with some of its bits flipped, whatever z.

    Attributes:
        z: ``[K, B, *Z]``, for its shape.
        kept: bits ``[N, *X]``.
        flips: probability that a bit is flipped.
    """

    def __init__(self, z: Tensor, kept: Tensor, flips: float) -> None:
        self.z, self.kept, self.flips = z, kept, flips

    @property
    def mean(self) -> Tensor:
        """E[x], ``[K, B, *X]``."""
        return (self.flips + (1 - 2 * self.flips) * self.kept.mean(0)).expand(*self.z.shape[:2], *self.kept.shape[1:])

    def log_prob(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """``[B, *X] -> [K, B]``, nats."""
        seen = (torch.ones_like(x) if mask is None else mask).flatten(1)
        bits, kept = x.flatten(1), self.kept.flatten(1)
        differ = (seen * bits) @ (1 - kept).mT + (seen * (1 - bits)) @ kept.mT
        same = seen.sum(1, keepdim=True) - differ
        each = differ * math.log(self.flips) + same * math.log1p(-self.flips)
        # a gradient in z that is zero, where one is asked for
        return each.logsumexp(1) - math.log(len(kept)) + 0 * self.z.flatten(2).sum(2)

    def sample(self, rng: Rng) -> Tensor:
        """``[K, B, *X]``."""
        size = self.z.shape[:2]
        place = (rng.uniform(*size) * len(self.kept)).long().clamp(max=len(self.kept) - 1)
        image = self.kept[place]
        flipped = rng.uniform(*image.shape, dtype=image.dtype) < self.flips
        return torch.where(flipped, 1 - image, image)


class CopiesDecoder(Decoder):
    r"""The training set itself, each image with a few bits flipped.

    .. math:: p(x) = \frac1N \sum_n \prod_i (1 - f)^{[x_i = x_{n,i}]} f^{[x_i \ne x_{n,i}]}

    Nothing is learned, the latent says nothing, and every sample is a training image; held-out data pay log 1 / f for
    every bit in which they differ from the nearest one. Grey levels become bits once, when it is made.

    Source: Theis, van den Oord & Bethge (2016), A Note on the Evaluation of Generative Models, arXiv:1511.01844.
    """

    needs = frozenset({Trait.data("binary")})
    kept: Tensor

    def __init__(
        self,
        data: Tensor,
        z: Space,
        flips: Annotated[float, Gt(0), Lt(0.5), "f, probability that a bit of a copy is flipped"] = 0.01,
    ) -> None:
        super().__init__()
        self.flips = flips
        grey = data.to(torch.get_default_dtype()) / (255 if data.dtype == torch.uint8 else 1)
        self.register_buffer("kept", (torch.rand_like(grey) < grey).to(grey.dtype))

    def forward(self, z: Tensor, batch: Batch | None, model: Any) -> Copies:
        """p(x), whatever z."""
        return Copies(z, self.kept, self.flips)


@hookimpl
def vbench_decoders() -> dict[str, type[Decoder]]:
    """By the names that the grid has for them."""
    return {"copies": CopiesDecoder, "noisy": NoisyDecoder}
