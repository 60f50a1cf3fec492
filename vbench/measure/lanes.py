"""Many draws for each of many data in one pass, every (draw, datum) in a lane of its own.

A lane sees one datum and its own random numbers, so what leaves it is that datum's gradient and nobody else's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import vmap

from vbench.measure.layers import tap
from vbench.measure.taps import Tape
from vbench.model import rebuilt
from vbench.rng import Rng
from vbench.types import Batch

__all__ = ["LaneGradients", "Lanes"]


class LaneGradients(NamedTuple):
    """What one pass tells of the gradients of C data with S draws each.

    Attributes:
        own: part or layer -> squared norm of each, ``[C, S]`` float64.
        cross: part or layer -> inner product of the sums over either half of the draws, ``[C]`` float64.
        totals: parameter -> gradient summed over lanes; none for those that were not used.
        rows: how often the busiest layer was used in a lane.
        held: scalars of layers' inputs and output gradients in a lane.
    """

    own: dict[str, Tensor]
    cross: dict[str, Tensor]
    totals: dict[str, Tensor]
    rows: int
    held: int


class Lanes:
    """A copy of (model, estimator) that is run with one datum a lane.

    Weights of tapped layers are shared by the lanes; every other parameter gets a copy for each.

    Args:
        system: has a ``model``; called with a batch and an :class:`~vbench.rng.Rng` it gives a mean surrogate.
        owners: each of the model's trainable parameters -> the part, or the layer, that it counts with.

    Attributes:
        loose: how many scalars each lane has a copy of.
    """

    def __init__(self, system: nn.Module, owners: Mapping[str, str]) -> None:
        self._tape = Tape()
        self._system: Any = copy.deepcopy(system).requires_grad_(False)
        model: Any = self._system.model
        self._model: nn.Module = model
        self._owners = owners
        for name in owners:
            self._model.get_parameter(name).requires_grad_()
        self._layers = tap(self._model, self._tape)
        held = {f"{path}.{kind}" for path in self._layers for kind in ("weight", "bias")}
        self._loose = {name: self._model.get_parameter(name).detach() for name in owners if name not in held}
        self.loose = sum(p.numel() for p in self._loose.values())

    def __call__(self, batch: Batch, draws: int, rng: Callable[[Tensor], Rng]) -> LaneGradients:
        """Gradients of S = ``draws`` for each datum of ``batch``; ``rng`` makes a lane's own, lane c S + s."""
        tape, size = self._tape, len(batch.x) * draws
        places = {id(self._model.get_parameter(name)): name for name in self._loose}
        leaves = {name: p.expand(size, *p.shape).requires_grad_() for name, p in self._loose.items()}

        def surrogate(lane: Tensor, x: Any, index: Any, mask: Tensor | None, own: dict[str, Tensor]) -> Tensor:
            tape.lane = lane
            live = self._system
            if own:
                live = rebuilt(live, lambda t: own[places[id(t)]] if id(t) in places else t)
            alone = batch._replace(x=x[None], index=index[None], mask=None if mask is None else mask[None])
            value: Tensor = live(alone, rng(lane))
            return value

        columns = (batch.x, batch.index, batch.mask)
        x, index, mask = (None if t is None else t.repeat_interleave(draws, 0) for t in columns)
        lanes = torch.arange(size, device=batch.x.device)
        tape.draws, tape.lanes = draws, size
        weights = [layer.weight for layer in self._layers.values()]
        try:
            with torch.enable_grad():
                in_dims = (0, 0, 0, None if mask is None else 0, 0)
                values = vmap(surrogate, in_dims=in_dims, randomness="error")(lanes, x, index, mask, leaves)
            tape.armed = True
            inputs = [*leaves.values(), *weights]
            found: Sequence[Tensor | None] = [None] * len(inputs)
            if values.requires_grad:
                found = torch.autograd.grad(values.sum(), inputs, allow_unused=True)
        finally:
            tape.lane, tape.armed = None, False
        return self._collected(dict(zip(leaves, found, strict=False)), len(batch.x), draws)

    def _collected(self, leaves: Mapping[str, Tensor | None], data: int, draws: int) -> LaneGradients:
        parts = dict.fromkeys(self._owners.values())
        device = self._model.get_parameter(next(iter(self._owners))).device
        own = {part: torch.zeros(data, draws, dtype=torch.float64, device=device) for part in parts}
        cross = {part: torch.zeros(data, dtype=torch.float64, device=device) for part in parts}
        totals: dict[str, Tensor] = {}
        rows, held, half = 1, 0, draws // 2
        for name, leaf in leaves.items():
            if leaf is not None:
                part, flat = self._owners[name], leaf.reshape(data, draws, -1).double()
                own[part] += flat.square().sum(2)
                cross[part] += (flat[:, :half].sum(1) * flat[:, half:].sum(1)).sum(1)
                totals[name] = leaf.sum(0)
        for path, layer in self._layers.items():
            seen = self._tape.read(path)
            if seen is not None:
                part, (a, d), biased = self._owners[f"{path}.weight"], seen, f"{path}.bias" in self._owners
                found = layer.squares(a, d, biased)
                own[part] += found.own
                cross[part] += found.cross
                totals[f"{path}.weight"] = found.weight
                if biased:
                    totals[f"{path}.bias"] = found.bias
                rows, held = max(rows, d.shape[2]), held + (a.numel() + d.numel()) // (data * draws)
        return LaneGradients(own, cross, totals, rows, held)
