"""GPUs in shares: which of them a job sees, so that as many jobs share one as fit."""

from __future__ import annotations

import functools
import math
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["VARIABLE", "Devices", "devices_here"]

VARIABLE = "CUDA_VISIBLE_DEVICES"
_ROUNDING = 1e-6  # three thirds fill a device


class Devices:
    """Devices by name, and how much of each is free.

    Args:
        names: as CUDA knows them, ``("0", "1")``.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._free = dict.fromkeys(self.names, 1.0)
        self._lock = threading.Lock()

    def room(self, share: float) -> int:
        """How many jobs fit that take so much each, where nothing is taken."""
        if share > 1:
            return len(self.names) // math.ceil(share)
        return len(self.names) * math.floor(1 / share + _ROUNDING)

    def take(self, share: float) -> dict[str, str]:
        """What a job's environment must say; empty where it takes nothing.

        Raises:
            LookupError: there is no room for it.
        """
        if not share:
            return {}
        part = min(share, 1.0)
        with self._lock:
            found = [name for name in self.names if self._free[name] > part - _ROUNDING][: math.ceil(share)]
            if len(found) < math.ceil(share):
                raise LookupError(f"no room for {share:g} GPU on {len(self.names)}")
            for name in found:
                self._free[name] -= part
        return {VARIABLE: ",".join(found)}

    def give(self, taken: Mapping[str, str], share: float) -> None:
        """What was taken is free again."""
        with self._lock:
            for name in filter(None, taken.get(VARIABLE, "").split(",")):
                self._free[name] = min(1.0, self._free[name] + min(share, 1.0))


def devices_here() -> Devices:
    """The devices that this process may use, the same object for all who ask: what is taken here is taken for all."""
    return _devices(_names())


@functools.cache
def _devices(names: tuple[str, ...]) -> Devices:
    return Devices(names)


def _names() -> tuple[str, ...]:
    # torch would tell too, but to ask it takes seconds and may touch a device, which spoils every fork
    told = os.environ.get(VARIABLE)
    if told is not None:
        names = (name.strip() for name in told.split(","))
        return tuple(name for name in names if name and name != "-1")
    return tuple(sorted((p.name.removeprefix("nvidia") for p in Path("/dev").glob("nvidia[0-9]*")), key=int))
