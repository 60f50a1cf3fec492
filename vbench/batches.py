"""From a dataset's rows to minibatches: order and binarisation as functions of keys and steps alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any, Final, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from vbench.grey import DRAWN, FRESH, MODES, dequantized, levels_of, to_levels
from vbench.rng import Rng, derive
from vbench.types import Batch, Dataset

__all__ = ["Order", "Split", "TrainingBatches", "binarize", "fixed_batches", "noticed_progress", "rows"]

Split = Literal["train", "valid", "test"]

_TOGETHER: Final = 16  # training steps prepared at a time,
_BYTES: Final = 2 * 10**6  # or fewer, for so many scalars

# Fixed draws, made once for each split in memory and dropped with it.
_fixed: MutableMapping[Tensor, tuple[tuple[str, str], Tensor]] = WeakTensorKeyDictionary()


def _uniform(count: int, seed: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """Independent uniform bytes in 0..254, exactly: 255 is rejected and drawn again.

    Raw words of a numpy bit generator: their stream is frozen across numpy's versions and the same for every
    device, and one word makes eight bytes, where ``torch.rand`` spends a word on each pixel.
    """
    source = np.random.PCG64DXSM(seed)

    def draw(size: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
        words = source.random_raw(-(-size // 8)).astype("<u8", copy=False)
        return words.view(np.uint8)[:size]

    values = draw(count)
    rejected = np.flatnonzero(values == 255)
    while rejected.size:
        again = draw(rejected.size)
        values[rejected] = again
        rejected = rejected[again == 255]
    return values


def _bits(x: Tensor, seed: int) -> Tensor:
    """Zeros and ones as bytes, one with probability x / 255 exactly: a uniform in 0..254 is below x."""
    uniform = torch.from_numpy(_uniform(x.numel(), seed)).view(x.shape)
    return torch.lt(uniform.to(x.device), x).view(torch.uint8)


def _values(x: Tensor, mode: str, seed: int, levels: int) -> Tensor:
    """Bits or levels as bytes, or dequantised floats; ``x`` itself under ``none``."""
    if mode == "none":
        return x
    if x.dtype != torch.uint8:
        raise ValueError(f"binarization {mode!r} needs bytes (torch.uint8), these data are {x.dtype}")
    if mode in ("threshold", "static"):
        return x >> 7  # bytes of at least 128 have the top bit; eight times as fast as comparing
    if mode == "levels":
        return to_levels(x, levels)
    if mode == "dequantized":
        return dequantized(x, levels, seed)
    if mode in DRAWN:
        return _bits(x, seed)
    raise ValueError(f"binarization {mode!r} is unknown, expected {', '.join(MODES)}")


def _cast(x: Tensor, mode: str, dtype: torch.dtype | None, levels: int) -> Tensor:
    """To floats; bytes that are not bits are intensities, 255 is one, or levels."""
    cast = x.to(dtype or torch.get_default_dtype())
    if mode == "levels":
        return cast / (levels - 1)
    return cast / 255 if mode == "none" and x.dtype == torch.uint8 else cast


def binarize(x: Tensor, mode: str, rng: Rng, dtype: torch.dtype | None = None, levels: int = 256) -> Tensor:
    """Floats that the parts see, from the bytes of a dataset.

    Args:
        x: bytes, any shape; floats too under ``none``, which pass through.
        mode: see :data:`vbench.grey.MODES` (the caller makes a draw ``fixed`` by keeping it).
        rng: used by those that draw. What is drawn does not depend on the device of ``x``.
        dtype: of the result; torch's default when None.
        levels: how many values the bytes have, evenly spaced.

    Raises:
        ValueError: the mode is unknown, or binarises what is not bytes.
    """
    seed = int(rng.spawn().key) if mode in DRAWN else 0
    return _cast(_values(x, mode, seed, levels), mode, dtype, levels)


@contextlib.contextmanager
def noticed_progress() -> Iterator[Callable[[], bool]]:
    """Inside it tells whether anything has read ``batch.progress``, and so trains otherwise where steps are more."""
    own, place, reads = Batch.progress, Batch._fields.index("progress"), set()

    def progress(batch: Batch) -> Any:
        reads.add(True)
        return batch[place]

    Batch.progress = property(progress)  # type: ignore[assignment]
    try:
        yield lambda: bool(reads)
    finally:
        Batch.progress = own


class Order:
    """Which rows make the minibatch of a step: a function of (key, step), however steps are asked for.

    Each epoch is a fresh permutation; rows left over at its end, too few for a batch, are dropped for that
    epoch. A batch larger than the set is the whole set.

    >>> order = Order(10, 4, key=0)
    >>> bool((order.indices(7) == Order(10, 4, key=0).indices(7)).all())
    True
    """

    def __init__(self, n: int, batch: int, key: int) -> None:
        if n < 1 or batch < 1:
            raise ValueError(f"an order needs rows and a batch size of at least 1, not n={n}, batch={batch}")
        self.n = n
        self.batch = min(batch, n)
        self.key = key
        self.steps_per_epoch = n // self.batch
        self._epoch = -1
        self._permutation = torch.empty(0, dtype=torch.int64)

    def indices(self, step: int) -> Tensor:
        """Row numbers of a 0-based step, ``[B]`` int64."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(derive("order", self.key, epoch))
            self._permutation = torch.randperm(self.n, generator=generator)
            self._epoch = epoch
        return self._permutation[place * self.batch : (place + 1) * self.batch]


def _split(data: Dataset, split: Split) -> Tensor:
    tensor: Tensor = getattr(data, split)
    return tensor


def _mask(data: Dataset, split: Split) -> Tensor | None:
    mask: Tensor | None = getattr(data, "masks", {}).get(split)
    return mask


def _fixed_values(data: Dataset, split: Split) -> Tensor:
    """The split under its one fixed draw, a function of the dataset; kept while the split is in memory."""
    x, levels = _split(data, split), levels_of(data.x)
    if data.binarization not in DRAWN:
        return _values(x, data.binarization, 0, levels)
    name = (data.digest, split)
    known, values = _fixed.get(x, (None, x))
    if known != name:
        values = _values(x, data.binarization, derive("fixed", *name), levels)
        _fixed[x] = name, values
    return values


def _part_key(key: int, position: int) -> Tensor:
    return torch.tensor(derive("parts", key, position), dtype=torch.int64)


class TrainingBatches:
    """The minibatch of each training step, a function of (key, step) however steps are asked for.

    What is drawn anew (``dynamic`` bits) comes from a stream that is a function of (key, step) only: estimators that
    share key and order see the same. ``fixed`` is one draw of every split, a function of the dataset alone.

    Args:
        data: the dataset; its training split and mask are used.
        steps: of the whole run, for ``progress``.
        key: of the cell's block, the same for all estimators that are to be compared.
        order: of the rows.
        device: where batches land.
        dtype: of ``x``; torch's default when None.
    """

    def __init__(
        self,
        data: Dataset,
        steps: int,
        key: int,
        order: Order,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> None:
        self.data, self.steps, self.key, self.order = data, steps, key, order
        self.device, self.dtype = torch.device(device), dtype
        scalars = order.batch * data.train[0].numel()
        # steps are prepared together: between two steps the caches have forgotten the code that draws, and each of
        # its calls would cost ten times its own time
        self._together = max(1, min(_TOGETHER, _BYTES // max(1, scalars)))
        self._start = -1
        self._block: list[Batch] = []

    def __getitem__(self, step: int) -> Batch:
        """The minibatch of a 0-based step."""
        start = step - step % self._together
        if start != self._start:
            self._start, self._block = start, self._prepared(start)
        batch = self._block[step - start]
        return batch._replace(x=_cast(batch.x, self.data.binarization, self.dtype, levels_of(self.data.x)))

    def _prepared(self, start: int) -> list[Batch]:
        """The next batches; their data are bytes still, where they can be."""
        data, mode = self.data, self.data.binarization
        numbers = range(start, start + self._together)
        index = torch.cat([self.order.indices(step) for step in numbers])
        source = _fixed_values(data, "train") if mode == "fixed" else data.train
        x = source.index_select(0, index.to(source.device))
        if mode != "fixed":
            seed = derive("binarize", self.key, start) if mode in FRESH else 0
            x = _values(x, mode, seed, levels_of(data.x))
        mask = _mask(data, "train")
        masks = None if mask is None else mask.index_select(0, index.to(mask.device)).to(self.device)

        def cut(tensor: Tensor) -> tuple[Tensor, ...]:
            return torch.split(tensor.to(self.device), self.order.batch)

        # bytes travel, floats are made where they are used
        return [
            Batch(*parts)
            for parts in zip(
                cut(x),
                cut(index),
                (step / self.steps for step in numbers),
                [None] * len(numbers) if masks is None else cut(masks),
                torch.tensor([derive("parts", self.key, step) for step in numbers]).unbind(),
                strict=True,
            )
        ]


def rows(batch: Batch, here: slice) -> Batch:
    """Some of its data."""
    mask = None if batch.mask is None else batch.mask[here]
    return batch._replace(x=batch.x[here], index=batch.index[here], mask=mask)


def fixed_batches(
    data: Dataset,
    split: Split,
    size: int,
    key: int,
    count: int | None = None,
    limit: int | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    again: int = 0,
) -> Iterator[Batch]:
    """Batches to evaluate on: rows in order under one binarisation that depends only on the dataset.

    Numbers of all cells and seeds are over the same bits, whatever ``size``, ``count`` and ``limit``. Under
    ``dynamic`` these bits are those that ``fixed`` has.

    Args:
        data: the dataset.
        split: train, valid or test; ``index`` counts the rows of this split.
        size: rows of a batch; the last may be smaller.
        key: seeds ``Batch.key`` (what parts draw inside forward), never the data.
        count: batches at most; None for all.
        limit: rows at most, the first ones; None for all.
        device: where batches land.
        dtype: of ``x``; torch's default when None.
        again: under ``dynamic``, the number of another draw of the bits of the same rows.
    """
    if size < 1:
        raise ValueError(f"a batch size is at least 1, not {size}")
    rows = len(_split(data, split))
    rows = rows if limit is None else min(rows, limit)
    rows = rows if count is None else min(rows, count * size)
    mask = _mask(data, split)
    if again and data.binarization == "dynamic":
        values = _values(_split(data, split)[:rows], "dynamic", derive("fixed", data.digest, split, again), 256)
    else:
        values = _fixed_values(data, split)
    for position, start in enumerate(range(0, rows, size)):
        stop = min(start + size, rows)
        yield Batch(
            x=_cast(values[start:stop].to(device), data.binarization, dtype, levels_of(data.x)),
            index=torch.arange(start, stop, device=device),
            mask=None if mask is None else mask[start:stop].to(device),
            key=_part_key(key, position),
        )
