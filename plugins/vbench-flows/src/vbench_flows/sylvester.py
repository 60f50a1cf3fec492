"""Sylvester flow posterior, with orthogonal, Householder or triangular steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from vbench import Batch, Space
from vbench_flows.householder import Householder
from vbench_flows.normalizing import Flow, FlowEncoder, Hidden, Latent, Net, Steps
from vbench_flows.roots import tanh_root

__all__ = ["Sylvester", "SylvesterEncoder", "flipped", "orthonormal", "reflected"]

Map = Callable[[Tensor], Tensor]
Variant = Literal["orthogonal", "householder", "triangular"]


@dataclass(frozen=True)
class Sylvester:
    """One Sylvester step.

    Attributes:
        down: Q', ``[K, B, D] -> [K, B, M]``; up: Q, back.
        r, s: upper triangular ``[B, M, M]``, every r_ii s_ii > -1; b: ``[B, M]``.
    """

    down: Map
    up: Map
    r: Tensor
    s: Tensor
    b: Tensor

    @property
    def _rate(self) -> Tensor:
        """Slopes along each axis at zero ``[B, M]``."""
        return 1 + self.r.diagonal(dim1=-2, dim2=-1) * self.s.diagonal(dim1=-2, dim2=-1)

    def _log_det(self, h: Tensor) -> Tensor:
        squared = h.square()
        return (squared + (1 - squared) * self._rate).log().sum(-1)

    def _added(self, h: Tensor) -> Tensor:
        return self.up(_times(self.r, h))

    def push(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """``[K, B, D]`` to ``[K, B, D]`` and ``[K, B]``."""
        h = (_times(self.s, self.down(z)) + self.b).tanh()
        return z + self._added(h), self._log_det(h)

    def pull(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """One scalar equation for each axis, the last first: the matrices are triangular."""
        image, rate = self.down(z), self._rate
        values: list[Tensor] = []  # of Q'z, from the last axis on
        hs: list[Tensor] = []
        for i in reversed(range(image.shape[-1])):
            y, c = image[..., i], self.b[:, i]
            for j, (value, h) in enumerate(zip(values, hs, strict=True), 1):
                y, c = y - self.r[:, i, -j] * h, c + self.s[:, i, -j] * value
            hs.append(tanh_root(self.s[:, i, i] * y + c, rate[:, i]).tanh())
            values.append(y - self.r[:, i, i] * hs[-1])
        h = torch.stack(hs[::-1], -1)
        return z - self._added(h), self._log_det(h)


def _times(matrix: Tensor, v: Tensor) -> Tensor:
    """``[B, N, M]`` times ``[K, B, M]``."""
    return (matrix @ v[..., None])[..., 0]


def _triangular(diagonal: Tensor, above: Tensor) -> Tensor:
    """``[B, M, M]`` from the diagonal's pre-activations ``[B, M]`` and the entries above it, row by row."""
    size = diagonal.shape[-1]
    i, j = torch.meshgrid(*[torch.arange(size, device=above.device)] * 2, indexing="ij")
    # reading by place, not writing into a matrix, which has no rule under vmap; what stands below reads the zero
    place = torch.where(i < j, i * size - i * (i + 1) // 2 + j - i - 1, above.shape[-1])
    entries = torch.cat([above, torch.zeros_like(diagonal[:, :1])], -1)
    return entries[:, place] + torch.diag_embed(diagonal.tanh())


def orthonormal(q: Tensor) -> tuple[Map, Map]:
    """Q' and Q from any ``[B, D, M]`` of full rank.

    By QR, not by the source's iteration: the determinant is right for columns orthonormal to rounding alone.
    """
    q = torch.linalg.qr(q).Q
    return lambda z: _times(q.mT, z), lambda v: _times(q, v)


def reflected(v: Tensor) -> tuple[Map, Map]:
    """Q' and Q as a product of reflections about ``v [B, H, D]``, H of any number."""
    steps = [Householder(own) for own in v.unbind(1)]

    def down(z: Tensor) -> Tensor:
        for step in steps:
            z, _ = step.push(z)
        return z

    def up(z: Tensor) -> Tensor:
        for step in reversed(steps):
            z, _ = step.push(z)
        return z

    return down, up


def flipped(odd: bool) -> tuple[Map, Map]:
    """Q' and Q of the triangular variant: the identity, or the reverse order in every second step."""

    def order(z: Tensor) -> Tensor:
        return z.flip(-1) if odd else z

    return order, order


class SylvesterEncoder(FlowEncoder):
    r"""A diagonal Gaussian pushed through Sylvester steps whose parameters are functions of x.

    .. math:: z' = z + Q R \tanh(\tilde R\, Q^\top z + b), \qquad
       \log |\det| = \sum_i \log\big(1 + \tanh'_i\, R_{ii} \tilde R_{ii}\big)

    with Q ``[latent, M]`` of orthonormal columns and upper triangular R, its diagonals in (-1, 1). Variants:
    ``orthogonal`` (any Q, M = ``bottleneck``), ``householder`` (Q a product of ``reflections``, M = latent) and
    ``triangular`` (Q the identity and the reverse order by turns, M = latent). Densities of given z solve M scalar
    equations a step, one after the other. Latents are real, ``[latent]``.

    Source: van den Berg, Hasenclever, Tomczak & Welling (2018), Sylvester Normalizing Flows for Variational Inference,
    arXiv:1803.05649.
    """

    def __init__(
        self,
        x: Space,
        latent: Latent = 50,
        hidden: Hidden = (200, 200),
        activation: Net = "tanh",
        steps: Steps = 4,
        variant: Annotated[Variant, "where Q comes from"] = "orthogonal",
        bottleneck: Annotated[int, Ge(1), "columns of Q, at most latent; orthogonal only"] = 8,
        reflections: Annotated[int, Ge(1), "factors of Q; householder only"] = 8,
    ) -> None:
        columns = min(bottleneck, latent) if variant == "orthogonal" else latent
        own = {"orthogonal": latent * columns, "householder": latent * reflections, "triangular": 0}[variant]
        sizes = [own, columns * (columns - 1), 3 * columns]
        super().__init__(x, latent, hidden, activation, steps * sum(sizes))
        self.variant, self.steps, self.sizes = variant, steps, sizes

    def forward(self, batch: Batch, model: Any) -> Flow:
        """q(z | x)."""
        base, rest = self.heads(batch)
        return Flow(base, [self._step(own, bool(t % 2)) for t, own in enumerate(rest.chunk(self.steps, -1))])

    def _step(self, raw: Tensor, odd: bool) -> Sylvester:
        q, upper, rest = raw.split(self.sizes, -1)
        r, s, b = rest.chunk(3, -1)
        above_r, above_s = upper.chunk(2, -1)
        down, up = self._maps(q, odd)
        return Sylvester(down, up, _triangular(r, above_r), _triangular(s, above_s), b)

    def _maps(self, q: Tensor, odd: bool) -> tuple[Map, Map]:
        if self.variant == "triangular":
            return flipped(odd)
        if self.variant == "householder":
            return reflected(q.unflatten(-1, (-1, self.z.size)))
        return orthonormal(q.unflatten(-1, (self.z.size, -1)))
