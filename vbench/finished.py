"""The model of a finished cell: as objects, as samples, as codes."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vbench import kept
from vbench.assemble import Built, build_choices
from vbench.batches import binarize
from vbench.grey import levels_of
from vbench.grid import cell_from_spec
from vbench.listing import study_catalogue
from vbench.model import Model
from vbench.provenance import provenance, stale_reason
from vbench.records import Outcome, Store, no_results
from vbench.rng import Rng, derive
from vbench.types import Batch, Encoder, Incompatible, Refittable

__all__ = ["encode", "sample", "trained"]

_AT_ONCE = 1000  # samples, or data


def trained(study: str | Path, cell: str) -> Built:
    """A finished cell's objects with its trained weights, ready for evaluation; the run must have kept them (``keep``).

    Args:
        study: its folder, ``results/<study>``.
        cell: its key or the first digits of it, or words that it alone has, as for ``vbench log``: ``"vimco seed=0"``.

    Returns:
        ``.model``, ``.estimator`` (as it was before training) and ``.data``, as of :func:`vbench.build`.

    Raises:
        FileNotFoundError: no such study, or the cell's weights were not kept.
        ValueError: no cell has these words, or several do.
        DamagedError: the file is not what was written.
    """
    folder = Path(study)
    if none := no_results(folder):
        raise FileNotFoundError(none)
    outcome = _find(Store(folder).outcomes(), cell)
    path = kept.file_of(folder, outcome)
    if path is None:
        raise FileNotFoundError(f"no weights of {outcome.name} were kept: run it again with --keep weights")
    found = cell_from_spec(outcome.spec, outcome.labels)
    choices = found.choices()
    if why := stale_reason(outcome.provenance, provenance(choices.values(), study_catalogue(folder))):
        warnings.warn(f"these weights are of other code than runs now: {why}", stacklevel=2)
    built = build_choices(choices, found.seed)
    if outcome.facts.get("data_digest") != built.data.digest:
        warnings.warn("the data have changed since these weights were trained", stacklevel=2)
    built.model.load_state_dict(kept.load(path))
    built.model.eval()
    return built


def _find(outcomes: Mapping[str, Outcome], cell: str) -> Outcome:
    words = cell.split()
    found = [outcome for outcome in outcomes.values() if all(outcome.has(word) for word in words)]
    if len(found) == 1:
        return found[0]
    several = "".join(f"\n  {outcome.key[:8]}  {outcome.name}" for outcome in found[:10])
    more = f"\n  and {len(found) - 10} more" if len(found) > 10 else ""
    raise ValueError(f"{len(found)} cells are meant by {cell!r}, expected one{several}{more}")


@torch.no_grad()
def sample(cell: Built, n: int, *, seed: int = 0, mean: bool = False) -> Tensor:
    """Ancestral samples of a model: z from the prior, then x from the decoder.

    Args:
        cell: of :func:`trained` or :func:`vbench.build`.
        n: how many.
        seed: the same seed gives the same samples; more of them begin with the same blocks of a thousand.
        mean: E[x | z] instead of a draw.

    Returns:
        ``[n, *X]``.

    >>> import vbench
    >>> cell = vbench.build(dataset="bernoulli-bars", encoder="gaussian[latent=2]", decoder="bernoulli",
    ...                     prior="standard-normal", estimator="reparam")
    >>> vbench.sample(cell, 3).shape == (3, *cell.data.x.shape)
    True
    """
    model, device = cell.model, _like(cell.model).device
    blocks = []
    for number, start in enumerate(range(0, n, _AT_ONCE)):
        rng = Rng(derive("samples", seed, number), device)
        z = model.prior_density(None).draw(rng, min(_AT_ONCE, n - start)).z
        likelihood = model.likelihood(None, z)
        blocks.append((likelihood.mean if mean else likelihood.sample(rng))[:, 0])
    return torch.cat(blocks) if blocks else torch.empty(0, *cell.data.x.shape)


@torch.no_grad()
def encode(cell: Built, x: Tensor, k: int = 1, *, seed: int = 0, mask: Tensor | None = None) -> Tensor:
    """Codes of data: draws of q(z | x).

    Args:
        cell: of :func:`trained` or :func:`vbench.build`.
        x: ``[B, *X]``: floats as the parts see them, or bytes, which are made so as the dataset says.
        k: draws for each datum.
        seed: of the draws, and of the bits where bytes are binarised.
        mask: ``[B, *X]``, which entries are observed; data that come with masks need theirs,
            ``cell.data.masks["test"]``.

    Returns:
        ``[k, B, *Z]``.

    Raises:
        Incompatible: there is no posterior, or none of data that it was not trained on.
        ValueError: data of another shape, a mask of another shape than theirs, or none where data come with masks.
    """
    model, like = cell.model, _like(cell.model)
    if type(model.encoder).forward is Encoder.forward:
        raise Incompatible("this encoder has no posterior")
    if isinstance(model.encoder, Refittable):
        raise Incompatible("this encoder has parameters for each datum that it was trained on, and for no other")
    if x.shape[1:] != cell.data.x.shape:
        raise ValueError(f"expected data [B, {', '.join(map(str, cell.data.x.shape))}], not {list(x.shape)}")
    if mask is None and getattr(cell.data, "masks", None):
        raise ValueError("these data come with masks: give mask=, as cell.data.masks['test']")
    if mask is not None and mask.shape != x.shape:
        raise ValueError(f"expected a mask {list(x.shape)}, as the data, not {list(mask.shape)}")
    codes = []
    for number, start in enumerate(range(0, len(x), _AT_ONCE)):
        rng = Rng(derive("codes", seed, number), like.device)
        rows = x[start : start + _AT_ONCE]
        if rows.dtype == torch.uint8:
            rows = binarize(rows, cell.data.binarization, rng, levels=levels_of(cell.data.x))
        index = torch.arange(start, start + len(rows), device=like.device)
        seen = None if mask is None else mask[start : start + _AT_ONCE].to(like.device)
        key = torch.tensor(derive("codes", seed, number), dtype=torch.int64)
        codes.append(model.posterior(Batch(rows.to(like), index, mask=seen, key=key)).draw(rng, k).z)
    return torch.cat(codes, 1) if codes else torch.empty(k, 0, *model.encoder.z.shape)


def _like(model: Model) -> Tensor:
    """A tensor of the device and the type that it computes with."""
    tensors = itertools.chain(model.parameters(), model.buffers())
    return next((tensor for tensor in tensors if tensor.is_floating_point()), torch.zeros(()))
