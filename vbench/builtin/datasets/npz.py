"""One's own arrays."""

from __future__ import annotations

import difflib
import hashlib
import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor

from vbench.builtin.datasets.files import DataError
from vbench.builtin.datasets.tensors import TensorDataset, fingerprint, permutation
from vbench.grey import notes as grey_notes
from vbench.grey import seen
from vbench.types import Space

__all__ = ["npz"]

_SPLITS: Final = ("train", "valid", "test")
_LABELS: Final = "_labels"
_ARRAYS: Final = (*_SPLITS, *(f"{split}{_LABELS}" for split in _SPLITS))
_LARGEST: Final = 2**34  # bytes, unpacked
_BROKEN: Final = (OSError, ValueError, LookupError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error)

Array = np.ndarray[tuple[int, ...], np.dtype[np.generic]]
Kind = Literal["binary", "bytes", "unit", "real"]


def npz(
    folder: Path,
    path: Annotated[str, "a .npz file, relative to the grid's folder or absolute"],
    support: Annotated[Literal["auto", "binary", "bytes", "unit", "real"], "of the values; auto: as they are"] = "auto",
    binarization: Annotated[
        Literal["dynamic", "fixed", "threshold", "levels", "dequantized", "none"], "how bytes become bits, or stay grey"
    ] = "dynamic",
    held_out: Annotated[float, Gt(0), Lt(0.5), "share of train for each split that the file lacks"] = 0.1,
    seed: Annotated[int, Ge(0), "of the permutation that cuts these"] = 0,
    sha256: Annotated[str, "of the file, checked where given"] = "",
) -> TensorDataset:
    """Own arrays: ``train``, and if there ``valid``, ``test`` and labels, of a NumPy file ``.npz``.

    Arrays are ``[n, *X]``, two dimensions in X an image, and labels ``train_labels`` and so on ``[n]``. Nothing is
    unpickled. What the values are is inferred and declared to the parts: zeros and ones are ``binary``, other bytes
    are ``bytes`` (intensities, which ``binarization`` turns into bits, or leaves as levels or numbers in [0, 1]), other
    values in [0, 1] are ``unit``, and all others ``real``. A split that the file lacks is cut from ``train`` by a fixed
    permutation; the column ``data_notes`` of the cells table says so.

    Source: Harris et al. (2020), Array Programming with NumPy, doi:10.1038/s41586-020-2649-2 (the format).

    Args:
        folder: what a relative path begins at.
        path: the file.
        support: what the values must be.
        binarization: of bytes alone.
        held_out: of the rows of ``train``.
        seed: another one cuts other rows.
        sha256: 64 hexadecimal digits.

    Raises:
        DataError: the file is not there, or no such file; one line says what is wrong.
    """
    content = _content(folder / path, path, sha256)
    arrays = _arrays(content, path)
    kind = _kind(arrays, support, path)
    told = [part for name in sorted(arrays) for part in _told(name, arrays[name])]
    rows = {name: _rows(array, kind) for name, array in arrays.items() if name in _SPLITS}
    labels = {
        name.removesuffix(_LABELS): torch.from_numpy(array.astype(np.int64))
        for name, array in arrays.items()
        if name not in _SPLITS
    }
    cut = _complete(rows, labels, held_out, seed, path)
    shape = tuple(rows["train"].shape[1:])
    x = seen(shape, binarization) if kind == "bytes" else Space(shape, kind)
    how = "by its values" if support == "auto" else "as declared"
    return TensorDataset(
        train=rows["train"],
        valid=rows["valid"],
        test=rows["test"],
        x=x,
        digest=fingerprint("npz", kind, *told, *cut),
        binarization=binarization if kind == "bytes" else "none",
        labels=labels,
        notes="; ".join(filter(None, [f"{kind} {how}", *cut, grey_notes(x)])),
    )


def _content(file: Path, path: str, sha256: str) -> bytes:
    try:
        content = file.read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(f"npz: cannot read {path} in {file.parent} ({getattr(error, 'strerror', error)})") from None
    found = hashlib.sha256(content).hexdigest()
    if sha256 and found != sha256.lower():
        raise DataError(f"npz: {path} has SHA-256 {found}, expected {sha256}")
    return content


def _arrays(content: bytes, path: str) -> dict[str, Array]:
    """The arrays of the file, each of a name and a shape that is known."""
    found: dict[str, Array] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            size = sum(item.file_size for item in packed.infolist())
        if size > _LARGEST:
            raise ValueError(f"unpacked it would take {size} bytes")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            found = {name: np.asarray(file[name]) for name in file.files}
    except _BROKEN as error:
        text = " ".join(str(error).split())[:120]
        raise DataError(f"npz: {path} is no .npz file of plain arrays ({text})") from None
    for name in found:
        if name not in _ARRAYS:
            near = difflib.get_close_matches(name, _ARRAYS, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else f", expected {', '.join(_ARRAYS)}"
            raise DataError(f"npz: {path} holds {name!r}{hint}")
    if "train" not in found:
        raise DataError(f"npz: {path} holds no array 'train'")
    for name, array in found.items():
        if wrong := _wrong_labels(name, array, found) if name.endswith(_LABELS) else _wrong(array, found["train"]):
            raise DataError(f"npz: {path}: {name} is {array.dtype} {list(array.shape)}, {wrong}")
    return found


def _wrong(array: Array, train: Array) -> str:
    """What is wrong with the rows of a split; empty where nothing is."""
    shape = train.shape[1:]
    if array.dtype.kind not in "biuf":
        return "expected numbers"
    if array.ndim < 2 or 0 in array.shape:
        return "expected at least one row [n, ...] of at least one number"
    if array.shape[1:] != shape or array.dtype != train.dtype:
        return f"expected {train.dtype} [n, {', '.join(map(str, shape))}], as train"
    return "" if np.isfinite(array).all() else "and some of it is not finite"


def _wrong_labels(name: str, array: Array, arrays: Mapping[str, Array]) -> str:
    split = name.removesuffix(_LABELS)
    rows = arrays[split].shape[:1] if split in arrays else None
    fits = array.shape == rows and array.dtype.kind in "iu"
    return "" if fits else f"expected a whole number for each row of {split}"


def _kind(arrays: Mapping[str, Array], support: Literal["auto"] | Kind, path: str) -> Kind:
    """What the values are; what was declared must fit them.

    Raises:
        DataError: it does not.
    """
    values = [arrays[split] for split in _SPLITS if split in arrays]
    low, high = min(array.min() for array in values), max(array.max() for array in values)
    fits: dict[Kind, bool] = {
        "binary": all(bool(((array == 0) | (array == 1)).all()) for array in values),
        "bytes": values[0].dtype == np.uint8,
        "unit": bool(low >= 0 and high <= 1),
        "real": True,
    }
    if support == "auto":
        return next(kind for kind, fit in fits.items() if fit)
    if not fits[support]:
        raise DataError(f"npz: {path}: not {support}: its values are {values[0].dtype} from {low} to {high}")
    return support


def _told(name: str, array: Array) -> tuple[str, str, str, bytes]:
    return name, array.dtype.str, str(array.shape), np.ascontiguousarray(array).tobytes()


def _rows(array: Array, kind: Kind) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array if kind == "bytes" else array.astype(np.float32)))


def _complete(rows: dict[str, Tensor], labels: dict[str, Tensor], held_out: float, seed: int, path: str) -> list[str]:
    """Cut the splits that are lacking from ``train``; a line on each."""
    n, notes = len(rows["train"]), list[str]()
    count = round(held_out * n)
    lacking = [split for split in ("valid", "test") if split not in rows]
    if lacking and not 0 < count * len(lacking) < n:
        raise DataError(f"npz: {path}: {n} rows of train are too few to cut {' and '.join(lacking)} from them")
    left = permutation(n, f"npz {seed}")
    for split in lacking:
        taken, left = left[:count], left[count:]
        for found in (rows, labels):
            if "train" in found:
                found[split] = found["train"][taken]
        notes.append(f"{split} is {count} of {n} rows of train, by permutation {seed}")
    if lacking:
        kept = left.sort().values  # in the order of the file
        for found in (rows, labels):
            if "train" in found:
                found["train"] = found["train"][kept]
    return notes
