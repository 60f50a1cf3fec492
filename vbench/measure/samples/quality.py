"""Samples of a model beside held-out data, by several rulers; and both as pictures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Final, Literal, NamedTuple

import torch
from torch import Tensor

from vbench.batches import fixed_batches
from vbench.measure.bracket import simulated
from vbench.measure.measurement import Measurement, mean_over_data
from vbench.measure.samples.classifier import Classifier, frechet_distance, trained_classifier
from vbench.measure.samples.discrepancy import bandwidth, mmd_squared, permutation_p, pooled_kernel
from vbench.measure.samples.manifolds import precision_recall
from vbench.measure.samples.parzen import parzen_log_density, parzen_width
from vbench.model import Model
from vbench.rng import Rng, derive
from vbench.types import Batch, Dataset

__all__ = ["pictures", "sample_quality"]

_SIDE: Final = 6  # images beside each other in a picture, and lines of them
_SHOWN: Final = _SIDE**2  # samples in a picture, and data beside their reconstructions, half of each
_AT_ONCE: Final = 500
_CLASSIFIED: Final = 10_000  # training data that the classifier sees at most


class _Rulers(NamedTuple):
    """What all models of a dataset are measured by, on the CPU in double precision."""

    data: Tensor  # [n, D] held out
    chosen_on: Tensor  # [m, D] other data, that the Parzen width is chosen on; none where there are none
    width: float
    classifier: Classifier | None


def sample_quality(
    model: Model, data: Dataset, *, samples: int, neighbors: int, permutations: int, key: int, device: torch.device
) -> Iterator[tuple[str, Measurement]]:
    r"""Measures of samples of the model (split ``simulated``) and, beside them, of as many training data (``train``).

    All hold n rows against n test data, n the least of ``samples`` and what there is. What training data reach is what
    a model could; numbers of another n are other numbers.

    * ``sample_mmd_squared``: kernel discrepancy in pixels, Gaussian kernel whose width is the median distance of the
      test data, the same for all models; ``sample_mmd_p``: of its permutation test.
    * ``sample_precision``, ``sample_recall``: the share of samples in the manifold of the data, and the other way,
      in pixels; errors are binomial.
    * ``sample_parzen_log_likelihood``: nats; of Gaussian windows around samples, their width chosen on validation data,
      or where there are none on training data beyond the first n (and left out where there are none of these either).
      It ranks models wrongly (Theis et al.), and is here to be seen doing so.
    * ``sample_frechet``: Fréchet distance in the features of a small classifier that was trained on the labels of the
      dataset (split ``test``: its ``classifier_accuracy``), where there are labels.

    Args:
        model: one that generates without a batch.
        data: with test data.
        samples: n at most.
        neighbors: that tell how far a manifold reaches.
        permutations: of the test.
        key: of the samples.
        device: where samples are made; they are measured on the CPU.

    Yields:
        Split and measurement.

    Source: Theis, van den Oord & Bethge (2016), A Note on the Evaluation of Generative Models, arXiv:1511.01844, and
    those of each measure.
    """
    n = min(samples, len(data.test), len(data.train))
    rulers = _rulers(data, n, key)
    if rulers.classifier is not None:
        labels = data.labels["test"][:n]  # type: ignore[attr-defined]
        right = (rulers.classifier.labels(rulers.data) == labels).double()
        yield "test", _share("classifier_accuracy", float(right.mean()), n)
    made = _flat(each.batch for each in simulated(model, n, _AT_ONCE, key=key, device=device))
    sets: dict[Literal["simulated", "train"], Tensor] = {
        "simulated": made,
        "train": _flat(fixed_batches(data, "train", _AT_ONCE, key, limit=n)),
    }
    for split, rows in sets.items():
        if not bool(rows.isfinite().all()):
            raise ValueError("the model makes samples that are not finite")
        for measurement in _measured(rows, rulers, neighbors, permutations, key):
            yield split, measurement


def _rulers(data: Dataset, n: int, key: int) -> _Rulers:
    held_out = _flat(fixed_batches(data, "test", _AT_ONCE, key, limit=n))
    if len(data.valid):
        chosen_on = _flat(fixed_batches(data, "valid", _AT_ONCE, key, limit=n))
    else:  # the first n are measured: on these the least width is the best
        chosen_on = _flat(fixed_batches(data, "train", _AT_ONCE, key, limit=2 * n))[n:]
    labels = getattr(data, "labels", {})
    classifier = None
    if {"train", "test"} <= labels.keys():
        rows = _flat(fixed_batches(data, "train", _AT_ONCE, key, limit=_CLASSIFIED))
        classifier = trained_classifier(rows, labels["train"][: len(rows)], data.digest)
    return _Rulers(held_out, chosen_on, bandwidth(held_out), classifier)


@torch.no_grad()
def _measured(rows: Tensor, rulers: _Rulers, neighbors: int, permutations: int, key: int) -> Iterator[Measurement]:
    n, data = len(rows), rulers.data
    kernel = pooled_kernel(rows, data, rulers.width)
    value, error = mmd_squared(kernel)
    generator = torch.Generator().manual_seed(derive("permutations", key))
    yield Measurement("sample_mmd_squared", "all", value, error, n, "1")
    p = permutation_p(kernel, generator, permutations)
    yield Measurement("sample_mmd_p", "all", p, None, permutations, "1")
    if n > neighbors:
        precision, recall = precision_recall(rows, data, neighbors)
        yield _share("sample_precision", precision, n)
        yield _share("sample_recall", recall, n)
    if len(rulers.chosen_on):
        width = parzen_width(rulers.chosen_on, rows, rulers.width)
        density = parzen_log_density(data, rows, width)
        yield mean_over_data("sample_parzen_log_likelihood", "all", density, "nats")
    if rulers.classifier is not None:
        features = rulers.classifier.features
        yield Measurement("sample_frechet", "all", frechet_distance(features(rows), features(data)), None, n, "1")


def _share(metric: str, value: float, n: int) -> Measurement:
    return Measurement(metric, "all", value, math.sqrt(value * (1 - value) / n), n, "1")


def _flat(batches: Iterable[Batch]) -> Tensor:
    """All rows, ``[n, D]``, in double precision on the CPU."""
    return torch.cat([batch.x.flatten(1).cpu().double() for batch in batches])


@torch.no_grad()
def pictures(model: Model, data: Dataset, *, posterior: bool, key: int, device: torch.device) -> dict[str, Tensor]:
    """Grey pictures ``[H, W]`` of bytes: ``samples`` of the model, and test data each above a ``reconstruction``.

    Both are draws of the decoder, as they are what likelihood scores; of data that are no images there are none.

    Args:
        model: one that generates without a batch.
        data: with test data.
        posterior: whether there is a posterior to reconstruct by.
        key: of the draws.
        device: where.
    """
    if len(data.x.shape) < 2 or data.x.shape[:-2] not in ((), (1,)):
        return {}
    made = torch.cat([each.batch.x for each in simulated(model, _SHOWN, _AT_ONCE, key=key, device=device)])
    # parts see bytes in [0, 1]
    low, high = (0.0, 1.0) if data.train.dtype == torch.uint8 else map(float, data.train.aminmax())
    found = {"samples": _tiled(made, low, high)}
    if posterior:
        batch = next(fixed_batches(data, "test", _SHOWN // 2, key, device=device))
        rng = Rng(derive("reconstructions", key), device)
        z = model.posterior(batch).draw(rng.spawn(), 1).z
        again = model.likelihood(batch, z).sample(rng.spawn())[0]
        found["reconstructions"] = _tiled(_paired(batch.x, again), low, high)
    return found


def _paired(x: Tensor, again: Tensor) -> Tensor:
    """A line of data, then a line of their reconstructions, and so on."""
    lines = [row for pair in zip(torch.split(x, _SIDE), torch.split(again, _SIDE), strict=True) for row in pair]
    return torch.cat(lines)


def _tiled(x: Tensor, low: float, high: float) -> Tensor:
    """Images ``[n, *X]`` side by side with a grey line between them, ``[H, W]`` bytes."""
    images = x.detach().cpu().double().reshape(len(x), *x.shape[-2:])
    grey = ((images - low) / ((high - low) or 1)).clamp(0, 1).mul(255).round().to(torch.uint8)
    framed = torch.nn.functional.pad(grey, (0, 1, 0, 1), value=128)
    lines = [torch.cat(list(line), 1) for line in torch.split(framed, _SIDE)]
    return torch.cat(lines)
