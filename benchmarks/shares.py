"""What a step's time is made of."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile

PARTS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm"),
    "Adam's kernel": ("aten::_fused_adam_",),
    "activations": ("aten::sigmoid", "aten::sigmoid_backward", "aten::rsub"),
    "Bernoulli density": ("aten::log_sigmoid_forward", "aten::binary_cross_entropy_with_logits", "aten::sub_"),
}
REST, KERNELS = "Python, autograd and dispatch", "other kernels"


def of(loop: Callable[[], object], calls: int) -> dict[str, float]:
    """Shares of the loop's time by kind of kernel; the rest is what no kernel accounts for.

    Kernels are timed under torch's profiler, which hardly slows them, and the whole without it, since the profiler
    slows everything between them.
    """
    loop()
    whole = []
    for _ in range(calls):
        start = time.perf_counter()
        loop()
        whole.append(time.perf_counter() - start)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(calls):
            loop()
    events = {e.key: e.self_cpu_time_total / 1e6 / calls for e in profiler.key_averages() if e.key.startswith("aten::")}
    total = statistics.median(whole)
    found = {part: sum(events.pop(name, 0.0) for name in names) / total for part, names in PARTS.items()}
    found[KERNELS] = sum(events.values()) / total
    return found | {REST: 1 - sum(found.values())}
