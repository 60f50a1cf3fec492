import psutil
import pytest
import torch

from tests.measure.toys import value_of
from vbench.measure import throughput
from vbench.measure.throughput import Stopwatch, peak_memory


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves when it is told to."""
    now = [100.0]
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    return wait


def train(watch, clock, steps, seconds):
    for _ in range(steps):
        clock(seconds)
        watch.tick()


def test_only_training_counts(clock):
    watch = Stopwatch()
    watch.start()
    train(watch, clock, 10, 0.1)
    watch.stop()
    clock(1000)  # evaluation
    watch.start()
    train(watch, clock, 10, 0.3)
    watch.stop()
    clock(1000)
    assert watch.seconds == pytest.approx(4)
    assert value_of(watch.measurements(batch=50), "examples_per_second").value == pytest.approx(250)
    assert value_of(watch.measurements(batch=50), "seconds_per_step").value == pytest.approx(0.2)


def test_the_median_of_blocks_forgives_a_pause(clock):
    watch = Stopwatch()
    watch.start()
    train(watch, clock, 120, 0.1)
    clock(500)
    train(watch, clock, 130, 0.1)
    watch.stop()
    assert [steps for _, steps in watch.blocks] == [50] * 5
    assert value_of(watch.measurements(batch=1), "seconds_per_step").value == pytest.approx(0.1)
    assert value_of(watch.measurements(batch=1), "examples_per_second").value == pytest.approx(250 / 525)


def test_a_watch_that_does_not_run(clock):
    watch = Stopwatch()
    with pytest.raises(RuntimeError, match="call start"):
        watch.tick()
    watch.start()
    watch.stop()
    watch.stop()
    assert [m.metric for m in watch.measurements(batch=1)] == ["peak_memory"]


def test_peak_memory_sees_what_is_touched_and_never_falls():
    before = peak_memory()
    unused = before - psutil.Process().memory_info().rss
    block = torch.ones(unused + 2**28, dtype=torch.uint8)
    after = peak_memory()
    assert after - before > 2**25
    del block
    assert peak_memory() >= after
    assert after < 2**40  # bytes, not some other unit


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_tensors_are_counted():
    torch.cuda.reset_peak_memory_stats()
    block = torch.ones(2**24, device="cuda")
    assert 2**26 <= peak_memory("cuda") < 2**30
    del block
    watch = Stopwatch("cuda")
    watch.start()
    watch.tick()
    watch.stop()
    assert watch.steps == 1
