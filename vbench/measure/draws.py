"""Gradient draws: one estimate of the minibatch gradient for each key, alone or many at a time.

Draw i is a function of (key, i) and of nothing else, so every method gives the same draws, up to rounding.
"""

from __future__ import annotations

import copy
import statistics
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.func import grad, vmap

from vbench.measure.accumulate import spans
from vbench.measure.replay import RecordingRng
from vbench.model import rebuilt
from vbench.rng import Rng, derive
from vbench.types import Batch, Estimator

__all__ = ["METHODS", "GradientDraws", "agree", "owners", "ranges", "trainable"]

METHODS: Final = ("auto", "moments", "vmap", "loop")
_PARTS: Final = ("encoder", "decoder", "prior")

# Beyond this many multiply-adds a draw, memory traffic outweighs the calls that vmap saves (CPU, measured on
# dense and convolutional nets of 8 to 784 pixels). Fixed: a timing would make last bits depend on the hour.
_VMAP_WORK: Final = 2e7
_LANE_BUDGET: Final = 2**23  # scalars of gradients and decoder outputs held at a time
_MOST_LANES: Final = 64


class _System(nn.Module):
    """Model and estimator as one module: a copy keeps what they share."""

    def __init__(self, model: nn.Module, estimator: nn.Module) -> None:
        super().__init__()
        self.model, self.estimator = model, estimator

    def forward(self, batch: Batch, rng: Rng) -> Tensor:
        """The minibatch mean of the surrogate, ``[]``."""
        surrogate: Tensor = self.estimator(self.model, batch, rng).surrogate
        return surrogate.mean()


class GradientDraws:
    """Flat gradients ``[P]`` of copies of (model, estimator), so that measuring leaves no trace in either.

    Attributes:
        system: the two as one module, never called itself.
        batch: held fixed.
        keys: one for each draw.
        parameters: trainable parameters of the model: encoder's, decoder's, prior's and any others.
        owners: each of them -> the part, or the layer, that it counts with. One that two of them share counts once,
            in the first.
        pieces: each of these parts or layers -> its range in a flat gradient.
        parts: the same of all that moments are told of: ``all``, parts and their layers.
        evaluations: decoder evaluations per datum and draw that the estimator declares; they bound what a lane holds.
        drawn: random numbers of draw 0, in the order of their drawing; known once rehearsed.
        method: ``vmap`` or ``loop``, known once rows were drawn.

    Args:
        model: held fixed.
        estimator: held fixed.
        batch: held fixed.
        draws: how many.
        key: of all draws.
        chunk: lanes of a vmap; None: by a fixed memory budget, from the sizes of parameters and data alone.
        layers: tell the layers of a part apart.
    """

    def __init__(
        self,
        model: nn.Module,
        estimator: Estimator,
        batch: Batch,
        draws: int,
        key: int,
        chunk: int | None = None,
        layers: bool = False,
    ) -> None:
        self.system = _System(model, estimator)
        self.batch = batch
        self.keys = torch.tensor([derive("gradient", key, i) for i in range(draws)], dtype=torch.int64)
        self.drawn: list[Tensor] = []
        self._rehearsed: list[Tensor] = []
        self._times: list[float] = []
        self.method = "loop"
        self.parameters = trainable(self.system.model)
        self.owners = owners(self.parameters, layers)
        self.pieces = ranges(self.parameters, self.owners)
        self.parts = spans(self.pieces)
        self.evaluations = int(getattr(estimator, "evaluations", estimator.k))
        size = sum(p.numel() for p in self.parameters.values())
        self._work = size * batch.x.shape[0] * self.evaluations
        lane = size + 4 * self.evaluations * batch.x.numel()
        self._chunk = chunk or max(1, min(_MOST_LANES, _LANE_BUDGET // lane))

    @property
    def seconds(self) -> float:
        """Median seconds of a plain forward and backward pass: what a training step pays for a gradient."""
        return statistics.median(self._times)

    def rows(self, method: str) -> Iterator[Tensor]:
        """All draws in order, in groups ``[n, P]``, the model's dtype."""
        if method == "auto":
            method = "vmap" if self._worth_it() and self._vmappable() else "loop"
        elif method == "vmap":
            self.rehearsal()
        self.method = method
        if method == "loop":
            system = copy.deepcopy(self.system)
            for i in range(len(self.keys)):
                yield self._plain(system, self._rng(i))[None]
            return
        system = self._still()
        for start in range(0, len(self.keys), self._chunk):
            yield self._lanes(system, self.keys[start : start + self._chunk])

    def _worth_it(self) -> bool:
        return self.batch.x.is_cuda or (self._work <= _VMAP_WORK and self._chunk > 1)

    def rehearsal(self) -> list[Tensor]:
        """Draws 0, 1 and 0 again, one at a time on a copy of their own; they also tell what a draw costs."""
        if not self._rehearsed:
            system, device = copy.deepcopy(self.system), self.batch.x.device
            recording = RecordingRng(self.keys[0], device, self.drawn)
            self._rehearsed = [self._plain(system, rng) for rng in (recording, self._rng(1), self._rng(0))]
        return self._rehearsed

    def _rng(self, i: int) -> Rng:
        return Rng(self.keys[i], self.batch.x.device)

    def _vmappable(self) -> bool:
        """Whether draws are pure functions of their keys, and come out of a vmap as they do alone."""
        first, second, again = self.rehearsal()
        if not agree(again, first):
            return False
        try:
            with warnings.catch_warnings():
                # vmap loops over operators that it does not know, slower than we do
                warnings.filterwarnings("error", message=".*performance drop")
                lanes = self._lanes(self._still(), self.keys[:2])
        except Exception:
            return False
        return agree(lanes[0], first) and agree(lanes[1], second)

    def _still(self) -> _System:
        """A fresh copy without gradients of its own: what a failed vmap leaves in it hurts nobody."""
        return copy.deepcopy(self.system).requires_grad_(False)

    def _plain(self, system: _System, rng: Rng) -> Tensor:
        live = [system.model.get_parameter(name) for name in self.parameters]
        start = self._now()
        with torch.enable_grad():
            surrogate = system(self.batch, rng)
            if surrogate.requires_grad:
                gradients = torch.autograd.grad(surrogate, live, materialize_grads=True)
            else:
                gradients = tuple(torch.zeros_like(p) for p in live)
        self._times.append(self._now() - start)
        return torch.cat([g.flatten() for g in gradients])

    def _lanes(self, system: _System, keys: Tensor) -> Tensor:
        still = {name: p.detach() for name, p in self.parameters.items()}

        names = {id(system.model.get_parameter(name)): name for name in self.parameters}

        def objective(parameters: dict[str, Tensor], key: Tensor) -> Any:
            live = rebuilt(system, lambda t: parameters[names[id(t)]] if id(t) in names else t)
            return live(self.batch, Rng(key, self.batch.x.device))

        gradients = vmap(grad(objective), in_dims=(None, 0), randomness="error")(still, keys)
        return torch.cat([g.reshape(len(g), -1) for g in gradients.values()], 1)  # scalars among them

    def _now(self) -> float:
        if self.batch.x.is_cuda:
            torch.cuda.synchronize(self.batch.x.device)
        return time.perf_counter()


def trainable(model: nn.Module) -> dict[str, Tensor]:
    """Trainable parameters by name, those of one part together: the order of a flat gradient."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if not named:
        raise ValueError("the model has no trainable parameter: there is no gradient to measure")
    order = {part: place for place, part in enumerate(_PARTS)}
    return dict(sorted(named, key=lambda item: order.get(item[0].split(".")[0], len(order))))


def owners(parameters: Iterable[str], layers: bool = False) -> dict[str, str]:
    """Each parameter -> its part, or the layer that it belongs to: the module that holds it.

    What a part holds itself is a layer by its own name.

    >>> owners(["encoder.net.0.weight", "prior.logits"], layers=True)
    {'encoder.net.0.weight': 'encoder.net.0', 'prior.logits': 'prior.logits'}
    """
    return {name: _layer(name) if layers else name.split(".")[0] for name in parameters}


def _layer(name: str) -> str:
    module = name.rpartition(".")[0]
    return module if "." in module else name


def ranges(parameters: Mapping[str, Tensor], of: Mapping[str, str]) -> dict[str, slice]:
    """Each owner -> its range when the parameters, those of one owner together, are laid out flat."""
    found: dict[str, slice] = {}
    place = 0
    for name, parameter in parameters.items():
        start = found[of[name]].start if of[name] in found else place
        place += parameter.numel()
        found[of[name]] = slice(start, place)
    return found


def agree(values: Tensor, others: Tensor, floor: float = 0.0) -> bool:
    """Equal up to rounding, by norm (of at least ``floor``); never where something is not finite."""
    tolerance = 10 * torch.finfo(others.dtype).eps ** 0.5
    return bool((values - others).norm() <= tolerance * others.norm().clamp(min=floor))
