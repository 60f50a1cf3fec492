"""How fast training goes and how much memory it takes; evaluation does not count."""

from __future__ import annotations

import statistics
import sys
import time
from typing import Final

import torch

from vbench.measure.measurement import Measurement

__all__ = ["Stopwatch", "peak_memory"]

_BLOCK: Final = 50


class Stopwatch:
    """Seconds of training: runs between ``start`` and ``stop``, counts steps by ``tick``.

    Time is kept in blocks of 50 steps (fewer before a stop), the device synchronised at each end.

    Args:
        device: where training runs.

    Attributes:
        blocks: (seconds, steps) of each block so far.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.blocks: list[tuple[float, int]] = []
        self._since: float | None = None
        self._steps = 0

    def start(self) -> None:
        """Training goes on from here."""
        self._since, self._steps = self._now(), 0

    def tick(self) -> None:
        """One step is done.

        Raises:
            RuntimeError: the watch is not running.
        """
        if self._since is None:
            raise RuntimeError("tick() needs a running watch: call start() first")
        self._steps += 1
        if self._steps == _BLOCK:
            self.stop()
            self.start()

    def stop(self) -> None:
        """Training pauses; nothing happens where it already did."""
        if self._since is not None and self._steps:
            self.blocks.append((self._now() - self._since, self._steps))
        self._since = None

    @property
    def seconds(self) -> float:
        """Training seconds in finished blocks."""
        return sum(seconds for seconds, _ in self.blocks)

    @property
    def elapsed(self) -> float:
        """Training seconds up to now; on a CUDA device those since the last block are of what was asked of it."""
        return self.seconds + (time.perf_counter() - self._since if self._since is not None else 0.0)

    @property
    def all_blocks(self) -> list[tuple[float, int]]:
        """The blocks so far, one that has not ended yet among them."""
        return [*self.blocks, *([(self.elapsed - self.seconds, self._steps)] if self._since and self._steps else [])]

    @property
    def steps(self) -> int:
        """Training steps in finished blocks."""
        return sum(steps for _, steps in self.blocks)

    def measurements(self, batch: int) -> list[Measurement]:
        """Throughput and memory so far, without errors: blocks of one run share the machine's mood.

        * ``examples_per_second``: steps x batch over all training seconds.
        * ``seconds_per_step``: median over blocks, which a pause of the machine does not move.
        * ``peak_memory``: :func:`peak_memory`.

        Args:
            batch: data in a step.
        """
        memory = Measurement("peak_memory", "all", float(peak_memory(self.device)), None, None, "bytes")
        if not self.blocks:
            return [memory]
        rate = self.steps * batch / self.seconds
        pace = statistics.median(seconds / steps for seconds, steps in self.blocks)
        return [
            Measurement("examples_per_second", "all", rate, None, self.steps * batch, "1/s"),
            Measurement("seconds_per_step", "all", pace, None, self.steps, "s"),
            memory,
        ]

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def peak_memory(device: torch.device | str = "cpu") -> int:
    """Peak memory, bytes: of tensors on a CUDA device, else of the whole process since it started."""
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
