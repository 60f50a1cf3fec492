"""What ladder posteriors share: a deterministic way up, and the prior's own steps on the way down."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Annotated, Any

from annotated_types import Ge, MinLen
from torch import Tensor, nn

from vbench import Activation, Batch, DiagonalNormal, Encoder, Space, Trait, activation_layer, mlp
from vbench_hierarchy.chain import TOP_DOWN, Chain, NormalNet, widths_of
from vbench_hierarchy.hierarchy_encoder import Latent, stacked

__all__ = ["Ladder", "Ways"]

Ways = Sequence[Annotated[Sequence[Annotated[int, Ge(1)]], MinLen(1)]]


class Ladder(Encoder):
    r"""q(z | x) = q(z_L | x) prod q(z_l | z_{l+1}, x), each a blend of the prior's step and of what x says of z_l.

    The posterior is made of the prior's parameters too: where it is frozen they are, and gradients of a bound reach the
    prior through its draws as well.
    """

    offers = frozenset({Trait.PATHWISE, Trait.DENSITY, Trait.NORMALIZED, Trait.AMORTIZED})
    needs = frozenset({TOP_DOWN, Trait.INDEPENDENT_PRIOR})

    def __init__(
        self,
        x: Space,
        latent: Latent = (100, 50),
        hidden: Annotated[Ways, "widths of the hidden layers on the way up, for each layer"] = ((200, 200), (100, 100)),
        activation: Annotated[Activation, "between the layers"] = "tanh",
    ) -> None:
        super().__init__()
        self.z = stacked(latent)
        widths = widths_of(hidden, len(latent), f"{len(latent)} layers")
        inputs = (x.size, *(wide[-1] for wide in widths))
        self.ways = nn.ModuleList(
            nn.Sequential(mlp(below, wide[:-1], wide[-1], activation), activation_layer(activation))
            for below, wide in zip(inputs, widths, strict=False)
        )
        self.heads = nn.ModuleList(
            NormalNet(wide[-1], (), size, activation) for wide, size in zip(widths, latent, strict=True)
        )

    def evidence(self, batch: Batch) -> list[DiagonalNormal]:
        """What x says of each layer, ``[B, D]``, the layer next to the data first."""
        up, found = batch.x.flatten(1), []
        for way, head in zip(self.ways, self.heads, strict=True):
            up = way(up)
            found.append(head(up))
        return found

    def forward(self, batch: Batch, model: Any) -> Chain:
        """q(z | x)."""
        top, *below = self.evidence(batch)[::-1]
        prior = model.prior_density(batch)
        steps = [functools.partial(self._step, step, said) for step, said in zip(prior.rest, below, strict=True)]
        return Chain(self.top(prior.first, top), steps, self.z.layers, upward=False)

    def _step(self, step: Any, said: DiagonalNormal, above: Tensor) -> DiagonalNormal:
        return self.blend(step(above), said)

    def top(self, prior: DiagonalNormal, said: DiagonalNormal) -> DiagonalNormal:
        """q(z_L | x)."""
        return self.blend(prior, said)

    def blend(self, prior: DiagonalNormal, said: DiagonalNormal) -> DiagonalNormal:
        """q(z_l | z_{l+1}, x), of the prior's p(z_l | z_{l+1}) and what x says."""
        raise NotImplementedError(f"{type(self).__name__} must define blend(prior, said)")
