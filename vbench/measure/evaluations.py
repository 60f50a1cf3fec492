"""How often an estimate asks the decoder: by the estimator, and by an encoder that consults it too."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn

from vbench.rng import Rng, derive
from vbench.steps import StepDecoder
from vbench.types import Batch, Estimator

__all__ = ["decoder_evaluations", "watch_decoder"]

_PASSES: Final = 8


def decoder_evaluations(model: nn.Module, estimator: Estimator, batch: Batch, key: int = 0) -> float:
    """Decoder evaluations per datum of one estimate, counted as they are made; nothing that is passed in changes.

    What an encoder asks of the decoder before or while it draws (Hamiltonian, rejection, refinement steps) is among
    them, as often as the estimator makes posteriors and draws. Where chance decides how many there are, the mean of 8.

    Args:
        model: whose ``decoder`` is watched.
        estimator: what makes the estimate.
        batch: the data.
        key: pass i is a function of (key, i).
    """
    model, estimator = copy.deepcopy((model, estimator))
    seen: list[float] = []
    watch_decoder(model, lambda z, share: seen.append(z.shape[0] * z.shape[1] * share))
    totals: list[float] = []
    while len(totals) < 2 or (len(totals) < _PASSES and len(set(totals)) > 1):
        seen.clear()
        with torch.enable_grad():  # some rules differentiate inside forward
            estimator(model, batch, Rng(derive("evaluations", key, len(totals)), batch.x.device))
        totals.append(round(sum(seen), 6))  # shares of a sequence sum to one but for rounding
    return sum(totals) / len(totals) / len(batch.x)


def watch_decoder(model: Any, see: Callable[[Tensor, float], Any]) -> None:
    """Call ``see`` with every latent that the decoder is asked about, and with its share of a whole evaluation.

    For good: watch a copy. Clones of the model that are made later are watched too. A decoder that takes its latents
    step by step, by a module ``step`` that encoders may call too, is watched there.
    """
    if isinstance(step := getattr(model.decoder, "step", None), nn.Module):
        share = 1 / model.encoder.z.shape[0]
        step.register_forward_pre_hook(lambda _, inputs: see(inputs[0], share))
        return
    if not isinstance(model.decoder, StepDecoder):
        model.decoder.register_forward_pre_hook(lambda _, inputs: see(inputs[0], 1))
        return
    emit, steps = model.decoder.emit, model.encoder.z.shape[0]

    def watched(z: Tensor, seen: Tensor, batch: Batch | None) -> Any:
        see(z, 1 / steps)
        return emit(z, seen, batch)

    setattr(model.decoder, "emit", watched)  # noqa: B010 - of this one object
