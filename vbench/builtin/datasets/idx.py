"""The IDX format of MNIST and its relatives: a magic number, the lengths, then bytes."""

from __future__ import annotations

import math
import struct

import torch
from torch import Tensor

from vbench.builtin.datasets.files import DataError

__all__ = ["parse_idx"]


def parse_idx(data: bytes, dimensions: int) -> Tensor:
    """The tensor of an IDX file of unsigned bytes.

    The file is big-endian: two zero bytes, the type (8: unsigned byte), the number of dimensions, each length
    as 32 bits, then the values, the last dimension fastest.

    Source: LeCun, Cortes, Burges, "The MNIST database of handwritten digits", http://yann.lecun.com/exdb/mnist/

    Args:
        data: the whole file, decompressed.
        dimensions: expected, 3 for images and 1 for labels.

    Raises:
        DataError: another magic number, or another length than the header says.
    """
    magic = bytes((0, 0, 8, dimensions))
    if data[:4] != magic:
        raise DataError(
            f"not an IDX file of bytes in {dimensions} dimensions: magic {data[:4].hex()}, not {magic.hex()}"
        )
    start = 4 + 4 * dimensions
    if len(data) < start:
        raise DataError(f"IDX header is cut off: {len(data)} bytes of {start}")
    shape = struct.unpack(f">{dimensions}I", data[4:start])
    expected = start + math.prod(shape)
    if len(data) != expected:
        raise DataError(f"IDX file of shape {shape} has {len(data)} bytes, expected {expected}")
    return torch.frombuffer(bytearray(data[start:]), dtype=torch.uint8).view(shape)
