"""What is measured where: each measure over its data, or the reason why these parts do not allow it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Iterator, MutableMapping, Sequence

import torch
from torch import Tensor

from vbench.assemble import Built, build_choices, build_estimator
from vbench.batches import Order, TrainingBatches, fixed_batches
from vbench.grid import AIS, Cell, Gradients, LogLikelihood, Measure, parse_choice
from vbench.listing import known_catalogue
from vbench.measure.bracket import Annealing, annealed, annealed_likelihood, bracketed_likelihood, simulated
from vbench.measure.diagnostics import AGGREGATE, DIAGNOSTICS, diagnose
from vbench.measure.exact import exact_likelihood
from vbench.measure.free import NoFreePosteriorError, free_model
from vbench.measure.gaps import inference_gap
from vbench.measure.gradient_metrics import gradient_measurements
from vbench.measure.gradients import adapt
from vbench.measure.likelihood import bound_likelihood, log_likelihood
from vbench.measure.measurement import MEASURES, Measurement, mean_over_data, per_step
from vbench.measure.refit import refitted
from vbench.measure.samples import pictures, sample_quality
from vbench.measure.truth import Truth, UnknownTargetError, bound_truth, evidence_truth, mean_truth
from vbench.model import Model, frozen
from vbench.once import Once
from vbench.records import Row
from vbench.rng import derive
from vbench.types import Batch, Estimator, Incompatible, Refittable, Trait

__all__ = ["evaluate", "measure_gradients", "missing"]

_LAST_ONLY = frozenset({"active_units", *AGGREGATE})  # dear, and of the trained model
_BRACKET = "log_likelihood_upper"
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
    if settings.sample_quality and (why := _ungenerated(built)):
        without["sample_quality"] = why
    return without | _unannealed(built, settings.ais)


def _unannealed(built: Built, settings: AIS | None) -> dict[str, str]:
    """Why there is no annealing, or no data to bracket it on: told before training, by a try of the least of it."""
    if settings is None:
        return {}
    needs = {Trait.latent("real")}
    needs |= {Trait.DENSITY, Trait.NORMALIZED, Trait.AMORTIZED} if settings.start == "encoder" else set()
    if lacking := needs - built.offers:
        return {"ais": f"needs {' and '.join(sorted(lacking))}, which is not offered"}
    if settings.start == "encoder" and Trait.STEPS in built.offers and getattr(built.data, "masks", None):
        # q gives latents beyond the end no mass unless they are zero, and momenta move them: no move would be taken
        return {"ais": "start: encoder cannot move sequences that end early: take start: prior"}
    model = frozen(built.model).eval()
    device = next(itertools.chain(model.parameters(), model.buffers())).device
    least = Annealing(1, 2, 1, settings.start, pilot=1)
    try:
        annealed(model, fixed_batches(built.data, "train", 1, 0, count=1, device=device), least, key=0)
    except Exception as error:  # of parts that were not made for it, whatever it is
        return {"ais": f"cannot lead chains with these parts: {_line(error)}"}
    if not settings.simulated:
        return {}
    if getattr(built.data, "masks", None):
        return {_BRACKET: "needs data that the model makes, and it makes no masks"}
    try:
        annealed(model, simulated(model, 1, 1, key=0, device=device), least, key=0)
    except Exception as error:
        return {_BRACKET: f"needs data that the model makes, and it makes none: {_line(error)}"}
    return {}


def _ungenerated(built: Built) -> str:
    """Why there are no samples to measure; empty where there are."""
    if not len(built.data.test):
        return "needs test data"
    if getattr(built.data, "masks", None):
        return "needs data without masks"
    model = frozen(built.model).eval()
    device = next(itertools.chain(model.parameters(), model.buffers()), torch.zeros(())).device
    try:
        next(simulated(model, 1, 1, key=0, device=device))
    except Exception as error:  # of parts that were not made for it, whatever it is
        return f"needs data that the model makes, and it makes none: {_line(error)}"
    return ""


def _line(error: Exception) -> str:
    return f"{type(error).__name__} {' '.join(str(error).replace(';', ',').split())}"


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


def evaluate(
    built: Built,
    cell: Cell,
    step: int,
    *,
    last: bool,
    device: torch.device,
    kept: MutableMapping[str, Tensor] | None = None,
) -> list[Row]:
    """Held-out measures of the model: on validation data at every stop, and on test data at the last.

    Where the encoder has parameters of each datum's own, they are fitted to the data that are measured, first.

    All cells and seeds of a dataset are measured on the same bits with the same noise.

    Args:
        built: model, estimator and data.
        cell: for its settings.
        step: of the parameters.
        last: whether it is the last step.
        device: where.
        kept: takes values of each datum, ``test log_likelihood`` ``[n]``, and pictures, ``[H, W]`` bytes.
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
        if _refits(model):
            model, found = refitted(model, built.estimator, batches(), key=key)
        found += diagnose(model, built.estimator, batches(), samples=settings.samples, key=key, measures=measures)
        if last and settings.log_likelihood and "log_likelihood" not in without:
            ruler = _ruler(built, settings.log_likelihood)
            if ruler is None:
                found += log_likelihood(model, batches(), k=settings.log_likelihood.k, key=key)
            else:
                found += bound_likelihood(model, ruler.to(device), batches(), key=key)
            found += exact_likelihood(model, batches())
        if last and settings.inference_gap and "inference_gap" not in without:
            first = batches(limit=settings.inference_gap.data)
            found += inference_gap(model, first, **settings.inference_gap.model_dump(exclude={"data"}), key=key)
        if Trait.STEPS in built.offers:
            found += per_step(found, batches())
        if last and settings.ais and "ais" not in without and split == _held_out(built):
            found += _annealed(model, batches(limit=settings.ais.data), settings.ais, found, key)
        if kept is not None:
            kept.update({f"{split} {m.metric}": m.values for m in found if m.values is not None})
        rows += [measurement.row(step, split) for measurement in found]
    if last and settings.sample_quality and "sample_quality" not in without:
        key = derive("evaluation", "samples")
        asked = settings.sample_quality.model_dump()
        rows += [
            m.row(step, split) for split, m in sample_quality(built.model, built.data, **asked, key=key, device=device)
        ]
        if kept is not None:
            posterior = Trait.POSTERIOR in built.offers and not _refits(built.model)
            kept.update(pictures(built.model, built.data, posterior=posterior, key=key, device=device))
    if last and settings.ais and settings.ais.simulated and not {"ais", _BRACKET} & without.keys():
        rows += [m.row(step, "simulated") for m in _bracketed(built.model, settings, without, device)]
    return rows


def _held_out(built: Built) -> str:
    """The split that dear measures take: one is enough."""
    return "test" if len(built.data.test) else "valid"


def _how(settings: AIS) -> Annealing:
    return Annealing(**settings.model_dump(include=set(Annealing._fields)))


def _annealed(
    model: Model, batches: Iterator[Batch], settings: AIS, found: Sequence[Measurement], key: int
) -> list[Measurement]:
    """Annealed log likelihood, and by how much the other falls short of it on the same data."""
    measured = annealed_likelihood(model, batches, _how(settings), key=key)
    other = next((m.values for m in found if m.metric == "log_likelihood"), None)
    own = next(m.values for m in measured if m.metric == "log_likelihood_ais")
    if other is not None and own is not None:
        short = own - other[: len(own)]
        measured.append(mean_over_data("log_likelihood_shortfall", "all", short, "nats"))
    return measured


def _bracketed(model: Model, settings: Measure, without: Container[str], device: torch.device) -> list[Measurement]:
    """The two bounds on data that the model makes, and what else is known of these."""
    ais: AIS = settings.ais  # type: ignore[assignment]
    key = derive("evaluation", "simulated")
    data = list(simulated(model, ais.simulated, _BATCH, key=key, device=device))
    found = bracketed_likelihood(model, data, _how(ais), key=key)
    batches = [each.batch for each in data]
    ladder = settings.log_likelihood
    if ladder and ladder.method == "iwae" and "log_likelihood" not in without and not _refits(model):
        found += log_likelihood(model, batches, k=ladder.k, key=key)
    return [*found, *exact_likelihood(model, batches)]


def _refits(model: Model) -> bool:
    return isinstance(model.encoder, Refittable)


def measure_gradients(
    built: Built,
    cell: Cell,
    step: int,
    device: torch.device,
    missed: set[str],
    *,
    warm_up: bool = False,
    once: Once | None = None,
) -> list[Row]:
    """Moments of the gradient on fixed batches of training data; every estimator sees the same batches.

    Args:
        built: model at the parameters to measure at, and estimator.
        cell: for its settings and seed.
        step: of the parameters.
        device: where.
        missed: takes the reason where there is no target to hold the gradients against.
        warm_up: first let what the estimator adapts settle, on other batches.
        once: computes a target that other cells need too.
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
            layers=settings.layers,
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
        measured = found(_target(built, cell, key, device, once))
    except (UnknownTargetError, Incompatible) as reason:
        missed.add(f"gradient target {settings.target}: {reason}")
        measured = found(None)
    return [measurement.row(step, "train") for measurement in measured]


def _target(
    built: Built, cell: Cell, key: int, device: torch.device, once: Once | None
) -> Callable[[int, Batch], Truth] | None:
    """What the gradients of each batch are held against; all estimators of a dataset, model and seed share it."""
    settings: Gradients = cell.measure.gradients  # type: ignore[assignment]
    text, model = settings.target, built.model
    if text is None:
        return None
    if text == "evidence":
        return lambda number, batch: evidence_truth(model, batch)
    if text == "bound":
        return lambda number, batch: bound_truth(model, batch, built.estimator)
    choice = parse_choice(text, "estimator", known_catalogue(), "measure.gradients.target")
    other = build_choices({**cell.choices(), "estimator": choice}, cell.seed).estimator.to(device)
    draws: int = settings.target_draws  # type: ignore[assignment]

    def truth(number: int, batch: Batch) -> Truth:
        own = derive("target", key, number)
        if once is None:
            return mean_truth(model, batch, other, draws, own)

        def make() -> dict[str, Tensor]:
            blocks, exact = mean_truth(model, batch, other, draws, own)
            return {"blocks": blocks, "exact": torch.tensor(exact)}

        asked = {"target": text, "draws": draws, "key": own, "data": len(batch.x)}
        columns = {"x": batch.x, "index": batch.index, "mask": batch.mask, "key": batch.key}
        given = {f"batch.{name}": column for name, column in columns.items() if column is not None}
        found = once(asked, {**model.state_dict(), **given}, make)
        return Truth(found["blocks"].to(batch.x.device), bool(found["exact"]))

    return truth
