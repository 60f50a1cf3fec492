"""All states of a small discrete latent, for the estimators that enumerate them."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from vbench import Incompatible, Space

__all__ = ["LIMIT", "count", "states"]

LIMIT: Final = 1 << 12  # latent states, each one a decoder evaluation or a row of the posterior


def _choices(z: Space) -> int:
    return z.shape[-1] if z.support == "categorical" else 2


def count(z: Space) -> int:
    """Number of latent states: 2^D for D binary variables, C^D for D of C classes, 0 where they are not discrete.

    Raises:
        Incompatible: there are more than 2^12.
    """
    if z.support not in ("binary", "categorical"):
        return 0
    choices = _choices(z)
    variables = z.size // choices if z.support == "categorical" else z.size
    if choices**variables > LIMIT:
        raise Incompatible(
            f"{choices}^{variables} latent states are too many to enumerate: at most {LIMIT}; "
            f"give the encoder fewer latent variables"
        )
    return int(choices**variables)


def states(z: Space, like: Tensor) -> Tensor:
    """Every latent state ``[S, *Z]`` in the type and place of ``like``."""
    choices, total = _choices(z), count(z)
    variables = z.size // choices if z.support == "categorical" else z.size
    powers = choices ** torch.arange(variables - 1, -1, -1, device=like.device)
    digits = torch.arange(total, device=like.device)[:, None] // powers % choices
    if z.support == "categorical":
        digits = digits[..., None] == torch.arange(choices, device=like.device)
    return digits.to(like.dtype).reshape(total, *z.shape)
