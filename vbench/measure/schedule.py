"""What is measured where: each measure over its data, or the reason why these parts do not allow it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from vbench.assemble import Built, build_choices, build_estimator
from vbench.batches import Order, TrainingBatches, fixed_batches
from vbench.grid import Cell, Gradients, LogLikelihood, Measure, parse_choice
from vbench.listing import load_catalogue
from vbench.measure.diagnostics import DIAGNOSTICS, diagnose
from vbench.measure.free import NoFreePosteriorError, free_model
from vbench.measure.gaps import inference_gap
from vbench.measure.gradient_metrics import gradient_measurements
from vbench.measure.gradients import adapt
from vbench.measure.likelihood import bound_likelihood, log_likelihood
from vbench.measure.measurement import MEASURES, Measurement, per_step
from vbench.measure.refit import refitted
from vbench.measure.truth import Truth, UnknownTargetError, bound_truth, evidence_truth, mean_truth
from vbench.records import Row
from vbench.rng import derive
from vbench.types import Batch, Estimator, Incompatible, Refittable, Trait

__all__ = ["evaluate", "measure_gradients", "missing"]

_LAST_ONLY = frozenset({"active_units", "mutual_information"})  # dear, and of the trained model
_BATCH = 500  # fixed: what is drawn for a datum must not depend on the memory at hand


def missing(built: Built, settings: Measure) -> dict[str, str]:
    """Measures that these parts do not allow, with what is lacking."""
    offers = built.offers
    without = {
        name: f"needs {' and '.join(sorted(needs - offers))}, which is not offered"
        for name, needs in MEASURES.items()
        if needs - offers
    }
    try:
        _ruler(built, settings.log_likelihood)
    except Incompatible as error:
        without["log_likelihood"] = str(error)
    return without


def _ruler(built: Built, settings: LogLikelihood | None) -> Estimator | None:
    """The estimator by whose bound all cells are measured; None for importance sampling.

    Raises:
        Incompatible: these parts do not allow it, or it has no lower bound.
    """
    if settings is None or settings.method == "iwae":
        return None
    estimator = build_estimator(settings.method, built)
    if getattr(estimator.bound, "kind", "none") != "lower":
        raise Incompatible(f"by {settings.method} is none: it has no lower bound")
    return estimator


def evaluate(built: Built, cell: Cell, step: int, *, last: bool, device: torch.device) -> list[Row]:
    """Held-out measures of the model: on validation data at every stop, and on test data at the last.

    Where the encoder has parameters of each datum's own, they are fitted to the data that are measured, first.

    All cells and seeds of a dataset are measured on the same bits with the same noise.
    """
    without = missing(built, cell.measure)
    measures = {name for name in DIAGNOSTICS if name not in without and (last or name not in _LAST_ONLY)}
    settings, rows = cell.measure, []
    for split in ("valid", "test") if last else ("valid",):
        key = derive("evaluation", split)

        def batches(split: str = split, key: int = key, limit: int | None = None) -> Iterator[Batch]:
            least = min((count for count in (settings.data, limit) if count), default=None)
            return fixed_batches(built.data, split, _BATCH, key, limit=least, device=device)  # type: ignore[arg-type]

        if not len(getattr(built.data, split)):
            continue
        model = built.model
        found: list[Measurement] = []
        if isinstance(model.encoder, Refittable):
            model, found = refitted(model, built.estimator, batches(), key=key)
        found += diagnose(model, built.estimator, batches(), samples=settings.samples, key=key, measures=measures)
        if last and settings.log_likelihood and "log_likelihood" not in without:
            ruler = _ruler(built, settings.log_likelihood)
            if ruler is None:
                found += log_likelihood(model, batches(), k=settings.log_likelihood.k, key=key)
            else:
                found += bound_likelihood(model, ruler.to(device), batches(), key=key)
        if last and settings.inference_gap and "inference_gap" not in without:
            first = batches(limit=settings.inference_gap.data)
            found += inference_gap(model, first, **settings.inference_gap.model_dump(exclude={"data"}), key=key)
        if Trait.STEPS in built.offers:
            found += per_step(found, batches())
        rows += [Row(step, split, *measurement) for measurement in found]
    return rows


def measure_gradients(
    built: Built, cell: Cell, step: int, device: torch.device, missed: set[str], *, warm_up: bool = False
) -> list[Row]:
    """Moments of the gradient on fixed batches of training data; every estimator sees the same batches.

    Args:
        built: model at the parameters to measure at, and estimator.
        cell: for its settings and seed.
        step: of the parameters.
        device: where.
        missed: takes the reason where there is no target to hold the gradients against.
        warm_up: first let what the estimator adapts settle, on other batches.
    """
    settings: Gradients = cell.measure.gradients  # type: ignore[assignment]
    size = settings.batch or cell.train.batch
    key = derive("gradients", cell.seed, step)
    if warm_up:
        order = Order(len(built.data.train), cell.train.batch, derive("warm-up order", key))
        training = TrainingBatches(built.data, settings.warmup, derive("warm-up data", key), order, device)
        others = (training[step] for step in range(settings.warmup))
        adapt(built.model, built.estimator, others, settings.warmup, derive("warm-up", key), lr=cell.train.lr)

    def found(target: Callable[[int, Batch], Truth] | None) -> list[Measurement]:
        batches, again = (
            fixed_batches(built.data, "train", size, key, count=settings.batches, device=device, again=draw)
            for draw in (0, 1)
        )
        return gradient_measurements(
            *(built.model, built.estimator, batches, settings.draws, key),
            target=target,
            again=again if bits else (),
            posterior=posterior,
        )

    bits = settings.binarization and built.data.binarization == "dynamic"
    if settings.binarization and not bits:
        missed.add(f"gradient_variance_binarization: binarization is {built.data.binarization}, no bits are drawn")

    posterior = settings.posterior
    if posterior:
        try:
            free_model(built.model, next(fixed_batches(built.data, "train", size, key, count=1, device=device)))
        except NoFreePosteriorError as reason:
            posterior = False
            missed.add(f"gradients by the posterior's parameters: {reason}")
    try:
        measured = found(_target(built, cell, key, device))
    except (UnknownTargetError, Incompatible) as reason:
        missed.add(f"gradient target {settings.target}: {reason}")
        measured = found(None)
    return [Row(step, "train", *measurement) for measurement in measured]


def _target(built: Built, cell: Cell, key: int, device: torch.device) -> Callable[[int, Batch], Truth] | None:
    """What the gradients of each batch are held against; all estimators of a dataset, model and seed share it."""
    settings: Gradients = cell.measure.gradients  # type: ignore[assignment]
    text, model = settings.target, built.model
    if text is None:
        return None
    if text == "evidence":
        return lambda number, batch: evidence_truth(model, batch)
    if text == "bound":
        return lambda number, batch: bound_truth(model, batch, built.estimator)
    choice = parse_choice(text, "estimator", load_catalogue(strict=False), "measure.gradients.target")
    other = build_choices({**cell.choices(), "estimator": choice}, cell.seed).estimator.to(device)
    draws: int = settings.target_draws  # type: ignore[assignment]
    return lambda number, batch: mean_truth(model, batch, other, draws, derive("target", key, number))
