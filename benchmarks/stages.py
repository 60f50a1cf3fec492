"""Where the microseconds of a step at small nets go: vbench's own step, and the one written by hand.

``python -m benchmarks.stages`` prints a table; ``--write`` puts it into README.md. Every stage of every step is timed
by itself and told by its fastest tenth, which others on the machine did not interrupt; a step is the sum of its stages.
Operations are those that torch dispatches, forward and backward, the optimiser's apart.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import loops, pairs
from vbench import optimizers
from vbench.batches import TrainingBatches
from vbench.estimators.pathwise import Pathwise
from vbench.estimators.reparam import reparam

BEGIN, END = "<!-- stages -->\n", "<!-- end stages -->"
STAGES = ("data", "forward", "backward", "optimiser", "the rest")
ROUNDS = 40
Places = dict[str, list[tuple[Any, str]]]
OURS: Places = {
    "data": [(TrainingBatches, "__getitem__")],
    "forward": [(Pathwise, "forward")],
    "backward": [(torch.autograd, "backward")],
    "optimiser": [(optimizers.Adam, "step")],
}
BY_HAND: Places = {
    "data": [(loops, "minibatch")],
    "backward": [(torch.autograd, "backward")],
    "optimiser": [(torch.optim.Adam, "step"), (torch.optim.Adam, "zero_grad")],
}


class _Counted(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += "_fused_adam" not in str(operator)
        return operator(*args, **kwargs or {})


def _timed(function: Callable, stage: str, seen: list[tuple[str, float, float]]) -> Callable:
    def run(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            seen.append((stage, start, time.perf_counter()))

    return run


def stages(loop: loops.Loop, places: Places) -> dict[str, float]:
    """Microseconds of each stage of a step; what stands between those that are named is the rest."""
    seen: list[tuple[str, float, float]] = []
    loop()
    with ExitStack() as stack:
        for stage, named in places.items():
            for owner, name in named:
                run = _timed(getattr(owner, name), stage, seen)
                stack.enter_context(mock.patch.object(owner, name, run))
        for _ in range(ROUNDS):
            loop()
    steps: list[dict[str, float]] = []
    last, end = "", 0.0
    for stage, start, stop in seen:
        # a forward pass that no name stands for begins where the data have been made
        between = "forward" if last == "data" and "forward" not in places else "the rest"
        if steps:
            steps[-1][between] += start - end
        if stage == "data":
            steps.append(dict.fromkeys(STAGES, 0.0))
        steps[-1][stage] += stop - start
        last, end = stage, stop
    return {stage: 1e6 * statistics.quantiles([s[stage] for s in steps], n=10)[0] for stage in STAGES}


def operations(loop: loops.Loop) -> float:
    """Of a step."""
    loop()
    with _Counted() as counted:
        loop()
    return counted.calls / loops.STEPS


def table() -> str:
    """All contestants, one a line."""
    runs = {
        "vbench": (loops.vbench(loops.DIGITS, reparam()), OURS),
        "by hand": (loops.by_hand(loops.DIGITS), BY_HAND),
        "by hand, fused Adam": (loops.by_hand(loops.DIGITS, fused=True), BY_HAND),
    }
    lines = [["digits 64-64-16, us of a step", *STAGES, "all", "operations"], ["---"] * (len(STAGES) + 3)]
    for name, (loop, places) in runs.items():
        found = stages(loop, places)
        figures = [*found.values(), sum(found.values())]
        lines.append([name, *(f"{value:.0f}" for value in figures), f"{operations(loop):.0f}"])
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"{text}\n{pairs.conditions('Shared')}.\n"


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = table()
    print(found)
    if "--write" in sys.argv:
        before, _, rest = pairs.TABLE.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        pairs.TABLE.write_text(f"{before}{BEGIN}{found}{END}{after}")
