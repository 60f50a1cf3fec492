"""What jobs can do to a supervisor. Imported by jobs' processes as ``targets``."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path


def _mark(folder, *words):
    with (Path(folder) / "marks").open("a") as file:
        file.write(" ".join(map(str, words)) + "\n")


def call(payload, report):
    """Dispatch: ``(name, *arguments)``."""
    name, *arguments = payload
    return globals()[name](report, *arguments)


def ok(report, status="done"):
    return status


def number(report):
    return 3


def progress(report, steps):
    for step in range(steps + 1):
        report(step, steps)
    return "done"


def fail(report, message="boom"):
    print("before the failure")
    raise ValueError(message)


def memory_error(report):
    raise MemoryError


def hog(report):
    import torch

    torch.empty(2**32)
    return "done"


def exit_with(report, code):
    sys.exit(code)


def os_exit(report, code):
    os._exit(code)


def kill_self(report, number):
    os.kill(os.getpid(), number)
    time.sleep(60)


def segfault(report):
    ctypes.string_at(0)


def nap(report, seconds, folder=None, name=""):
    started = time.monotonic()
    time.sleep(seconds)
    if folder:
        _mark(folder, name, started, time.monotonic())
    return "done"


def hang(report, folder):
    """Ignore every request to end, and hold the interpreter lock."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _mark(folder, os.getpid())
    ctypes.PyDLL(None).sleep(60)


def last_word(report):
    """Use the time between the request and the kill."""
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    report(1, 2)
    asked.wait(60)
    return "partial"


def parent_of(report, folder, then):
    """Leave a child behind that ignores SIGTERM and holds the output open."""
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    left = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    left.stdout.readline()
    _mark(folder, left.pid)
    return call(then, report)


def thread_behind(report):
    threading.Thread(target=time.sleep, args=(60,)).start()
    return "done"


def chatter(report, size):
    print("the beginning \x1b[31m")
    os.write(2, b"\xff\xfe" + b"x" * 100 + b"\n")
    line = "y" * 999 + "\n"
    for _ in range(size // 1000):
        sys.stdout.write(line)
    print("the end \ud800")
    return "done"


def surroundings(report, folder):
    import torch

    (torch.ones(300, 300) @ torch.ones(300, 300)).sum()
    own = list(Path("/proc/self/task").iterdir()) if sys.platform == "linux" else [0, 0]
    words = (torch.get_num_threads(), len(own), os.environ.get("VBENCH_TEST"), os.environ["OMP_NUM_THREADS"])
    _mark(
        folder,
        *words,
        "torch._dynamo" in sys.modules,
        torch.cuda.is_initialized(),
        os.getpgid(0) == os.getpid(),
        "vbench.runner" in sys.modules,
        any(name.startswith("vbench_") for name in sys.modules),
    )
    return "done"


def sees(report, folder, many):
    """Note the devices, and stay until so many have."""
    _mark(folder, os.environ.get("CUDA_VISIBLE_DEVICES"))
    deadline = time.monotonic() + 60
    while len((Path(folder) / "marks").read_text().split()) < many and time.monotonic() < deadline:
        time.sleep(0.02)
    return "done"


def nested(report):
    """A job may have processes of its own, as data loaders do."""
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(1) as pool, contextlib.suppress(KeyboardInterrupt):
        return pool.apply(str, ("done",))


def slow_once(report, folder):
    """The first time, wait to be killed."""
    first = not (Path(folder) / "marks").exists()
    _mark(folder, os.getpid())
    if first:
        time.sleep(120)
    return "done"


def stays(report, folder):
    _mark(folder, os.getpid())
    report(1, 2)
    time.sleep(120)
