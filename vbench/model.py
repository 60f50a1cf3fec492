"""The triple of encoder, decoder and prior, and its frozen twin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import torch
from torch import Tensor, nn

from vbench.types import Batch, Decoder, Density, Encoder, Likelihood, Posterior, Prior

__all__ = ["Model", "frozen", "rebuilt"]

_M = TypeVar("_M", bound=nn.Module)
_OF_EVERY_MODULE: Final = frozenset(nn.Module().__dict__)  # torch's own: they refer to no other tensor


class Model(nn.Module):
    """Encoder, decoder and prior. Parts reach each other through it and never hold one another."""

    def __init__(self, encoder: Encoder, decoder: Decoder, prior: Prior) -> None:
        super().__init__()
        self.encoder, self.decoder, self.prior = encoder, decoder, prior

    def posterior(self, batch: Batch) -> Posterior:
        """q(z | x) of the batch."""
        return cast(Posterior, self.encoder(batch, self))

    def likelihood(self, batch: Batch | None, z: Tensor) -> Likelihood:
        """p(x | z) for ``z [K, B, *Z]``; of a hierarchy the decoder sees the layer next to the data.

        Latents may be in double precision where the decoder is not; with fewer digits than its own, something lost
        them.
        """
        layers = self.encoder.z.layers
        seen = z[:, :, : layers[0]] if layers else z
        if seen.dtype == torch.float64:
            seen = seen.to(next((p.dtype for p in self.decoder.parameters() if p.is_floating_point()), seen.dtype))
        return cast(Likelihood, self.decoder(seen, batch, self))

    def log_likelihood(self, batch: Batch, z: Tensor) -> Tensor:
        """log p(x | z) ``[K, B]``, nats, observed entries only."""
        return self.likelihood(batch, z).log_prob(batch.x, batch.mask)

    def prior_density(self, batch: Batch | None) -> Density:
        """p(z)."""
        return cast(Density, self.prior(batch, self))

    def log_joint(self, batch: Batch, z: Tensor) -> Tensor:
        """log p(x, z) ``[K, B]``, nats."""
        return self.log_likelihood(batch, z) + self.prior_density(batch).log_prob(z)


def frozen(module: _M) -> _M:
    """A structural clone of a model, or of any module, whose parameters are detached.

    Modules are copied, tensors shared: the clone always shows the current values, costs no memory, and lets gradients
    through to its *inputs* only. A clone rather than a swap for one call, because a posterior may evaluate its nets
    long after it was made. Works inside ``torch.func`` transforms (parameters are detached at their own level).
    """
    return rebuilt(module, Tensor.detach)


def moving(model: Model, *parts: str) -> Model:
    """The model with detached parameters in all parts but these, ``encoder``, ``decoder`` or ``prior``."""
    clone = frozen(model)
    for part in parts:
        setattr(clone, part, getattr(model, part))
    return clone


def rebuilt(module: _M, change: Callable[[Tensor], Tensor]) -> _M:
    """A structural clone of ``module`` in which every parameter and buffer ``t`` is ``change(t)``.

    The module itself is never touched, unlike by ``torch.func.functional_call``, which loses the parameters of a
    module that is registered under two names (pytorch issue 164759).
    """
    return cast(_M, _clone(module, change, {}))


def _clone(module: nn.Module, change: Callable[[Tensor], Tensor], memo: dict[int, Any]) -> nn.Module:
    if id(module) in memo:
        return cast(nn.Module, memo[id(module)])
    # not copy.copy: it asks for a state that parametrised modules (weight_norm) refuse to give
    clone = memo[id(module)] = type(module).__new__(type(module))
    own = clone.__dict__
    own.update(module.__dict__)
    for kind in ("_parameters", "_buffers"):
        own[kind] = {name: _changed(tensor, change, memo) for name, tensor in module.__dict__[kind].items()}
    own["_modules"] = {n: None if m is None else _clone(m, change, memo) for n, m in module._modules.items()}
    # second references to the same tensors and modules, as in a recurrent layer's flat list of weights
    for name, value in module.__dict__.items():
        if name not in _OF_EVERY_MODULE:
            own[name] = _swapped(value, memo)
    return clone


def _changed(tensor: Tensor | None, change: Callable[[Tensor], Tensor], memo: dict[int, Any]) -> Any:
    if tensor is not None and id(tensor) not in memo:
        memo[id(tensor)] = change(tensor)
    return None if tensor is None else memo[id(tensor)]


def _swapped(value: Any, memo: dict[int, Any]) -> Any:
    """``value`` with everything that has a clone replaced by it, inside plain lists, tuples and dicts too."""
    if id(value) in memo:
        return memo[id(value)]
    if type(value) is dict:
        return {key: _swapped(item, memo) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_swapped(item, memo) for item in value)
    return value
