"""Independent replicates of gradient and value: by rows, by vmap, or in a loop, whichever works first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from vbench.model import Model
from vbench.rng import Rng, derive
from vbench.testing.models import expanded
from vbench.types import Batch, Estimator

__all__ = ["PARTS", "Replicates", "Sampler", "by_part", "call", "gradient_function", "keys", "row_gradients"]

PARTS: Final = ("encoder", "decoder", "prior")
Way = Literal["rows", "vmap", "loop"]
_CHUNK: Final[Mapping[Way, int]] = {"rows": 4096, "vmap": 2048, "loop": 1024}


class Replicates(NamedTuple):
    """n independent gradients of the batch mean by part ``[n, p]``, and values ``[n, B]``."""

    parts: dict[str, Tensor]
    value: Tensor


class _System(nn.Module):
    def __init__(self, model: Model, estimator: Estimator) -> None:
        super().__init__()
        self.model, self.estimator = model, estimator

    def forward(self, batch: Batch, key: Tensor) -> tuple[Tensor, Tensor]:
        estimate = self.estimator(self.model, batch, Rng(key))
        return estimate.surrogate.mean(), estimate.value


def keys(n: int, seed: int = 0) -> Tensor:
    """n random keys ``[n]``."""
    return torch.randint(2**62, (n,), generator=torch.Generator().manual_seed(seed % 2**63))


def by_part(gradients: Mapping[str, Tensor], lanes: bool = False) -> dict[str, Tensor]:
    """Gradients by parameter name, joined by part: ``[p]``, or ``[n, p]`` where the first dimension counts lanes."""
    found: dict[str, list[Tensor]] = {}
    for name, gradient in gradients.items():
        part = name.partition(".")[0]
        if part in PARTS:
            found.setdefault(part, []).append(gradient.reshape(len(gradient), -1) if lanes else gradient.flatten())
    return {part: torch.cat(found[part], -1) for part in PARTS if part in found}


def call(model: Model, estimator: Any, batch: Batch) -> tuple[dict[str, Tensor], Callable[..., Any]]:
    """Parameters of both by name, and ``(parameters, key) -> (gradients by name, value [B])``."""
    system = _System(model, estimator)
    parameters = {name: p.detach() for name, p in system.named_parameters() if p.requires_grad}

    def objective(parameters: dict[str, Tensor], key: Tensor) -> Any:
        return functional_call(system, parameters, (batch, key))

    return parameters, grad(objective, has_aux=True)


def gradient_function(model: Model, estimator: Any, batch: Batch) -> Callable[[Tensor], Any]:
    """``key -> (gradients by name, value [B])``, one replicate; vmap it over keys."""
    parameters, one = call(model, estimator, batch)
    return lambda key: one(parameters, key)


class Sampler:
    """Draws replicates of one estimator on one model and batch.

    Args:
        model: a test model.
        estimator: the accused.
        batch: data.
        rows: whether each datum of a large batch may stand for its own replicate: the model's parameters have rows,
            and the estimator calls itself separable.
    """

    def __init__(self, model: Model, estimator: Any, batch: Batch, rows: bool = True) -> None:
        self.model, self.estimator, self.batch = model, estimator, batch
        ways: list[Way] = ["rows", "vmap", "loop"] if rows else ["vmap", "loop"]
        self.way, self.reason = self._choose(ways)

    def _choose(self, ways: list[Way]) -> tuple[Way, str]:
        why = ""
        for way in ways[:-1]:
            try:
                self._draw(way, 2, 1)
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
            else:
                return way, why
        return ways[-1], why

    def __call__(self, n: int, seed: int) -> Iterator[Replicates]:
        """``n`` replicates in chunks, a function of ``seed``."""
        for start in range(0, n, _CHUNK[self.way]):
            yield self._draw(self.way, min(_CHUNK[self.way], n - start), derive("replicates", seed, start))

    def _draw(self, way: Way, n: int, seed: int) -> Replicates:
        if way == "rows":
            parts, value = row_gradients(self.model, self.estimator, self.batch, n, seed)
            means = {name: g.reshape(n, -1, g.shape[1]).mean(1) for name, g in parts.items()}
            return Replicates(means, value.reshape(n, -1))
        one = gradient_function(self.model, self.estimator, self.batch)
        if way == "vmap":
            gradients, value = vmap(one, randomness="error")(keys(n, seed))
        else:
            drawn = [one(key) for key in keys(n, seed)]
            gradients = {name: torch.stack([g[name] for g, _ in drawn]) for name in drawn[0][0]}
            value = torch.stack([v for _, v in drawn])
        own = {name.removeprefix("model."): g for name, g in gradients.items() if name.startswith("model.")}
        return Replicates(by_part(own, lanes=True), value)


def row_gradients(
    model: Model, estimator: Any, batch: Batch, times: int, seed: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Gradient of each datum's own surrogate by part ``[times * B, p]`` and values ``[times * B]``, in one pass."""
    wide, data = expanded(model, batch, times)
    estimate = estimator(wide, data, Rng(seed))
    if estimate.surrogate.shape != (len(data.x),):
        raise ValueError(f"the surrogate has shape {tuple(estimate.surrogate.shape)}, expected {(len(data.x),)}")
    leaves = dict(wide.named_parameters())
    found = torch.autograd.grad(
        estimate.surrogate.sum(), list(leaves.values()), allow_unused=True, materialize_grads=True
    )
    return by_part(dict(zip(leaves, found, strict=True)), lanes=True), estimate.value
