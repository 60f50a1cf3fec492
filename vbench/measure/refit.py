"""Parameters that belong to single data, fitted anew on other data while the model stands still."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from vbench.measure.evaluations import decoder_evaluations
from vbench.measure.measurement import Measurement
from vbench.model import Model, frozen
from vbench.rng import Rng, derive
from vbench.types import Batch, Estimator, Refittable

__all__ = ["ascend", "refitted"]


def ascend(parameters: Sequence[Tensor], objective: Callable[[int], Tensor], steps: int, lr: float) -> None:
    """Adam on the sum of ``objective(step)``, its rate falling to zero so that its noise does; nothing else moves."""
    optimizer = torch.optim.Adam(parameters, lr)
    with torch.enable_grad():
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
            optimizer.zero_grad()
            torch.autograd.backward(-objective(step).sum(), inputs=list(parameters))
            optimizer.step()


def refitted(
    model: Model, estimator: Estimator, batches: Iterable[Batch], *, key: int
) -> tuple[Model, list[Measurement]]:
    """The model with its encoder's parameters fitted to these data by the estimator's own gradient, and what it cost.

    Decoder and prior are frozen copies; the model itself and the estimator are not touched.

    * ``refit_evaluations``: decoder evaluations of each datum.
    * ``refit_seconds``: wall time of it all.

    Args:
        model: one whose encoder is :class:`vbench.types.Refittable`.
        estimator: its surrogate is ascended, in the encoder's parameters alone.
        batches: the data; ``index`` counts them.
        key: step s of batch b is a function of (key, b, s).

    Raises:
        ValueError: no data.

    Source: Hoffman, Blei, Wang & Paisley (2013), Stochastic Variational Inference, arXiv:1206.7051.
    """
    data = list(batches)
    if not data:
        raise ValueError("refitting needs at least one batch")
    old: Refittable = model.encoder  # type: ignore[assignment]
    n, still, start = sum(len(batch.x) for batch in data), frozen(model), time.perf_counter()
    made = Model(old.refit(n), still.decoder, still.prior).train(model.training)
    parameters = [p for p in made.encoder.parameters() if p.requires_grad]
    for number, batch in enumerate(data):

        def objective(step: int, number: int = number, batch: Batch = batch) -> Tensor:
            surrogate: Tensor = estimator(
                made, batch, Rng(derive("refit", key, number, step), batch.x.device)
            ).surrogate
            return surrogate

        ascend(parameters, objective, old.refit_steps, old.refit_lr)
    evaluations = old.refit_steps * decoder_evaluations(made, estimator, data[0], key)
    return made, [
        Measurement("refit_evaluations", "encoder", evaluations, None, n, "1"),
        Measurement("refit_seconds", "encoder", time.perf_counter() - start, None, n, "s"),
    ]
