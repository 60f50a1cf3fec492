"""The driver as its own process, beyond what the suite asks: SIGTERM, a second Ctrl-C, no main guard."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.execute.seen import gone

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and process groups")

HERE = Path(__file__).parent

DRIVER = """
    import json, signal, sys
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin without it
    sys.path.insert(0, sys.argv[1])
    from pathlib import Path
    from vbench.execute import running, server
    from vbench.execute.jobs import Job, Limits
    from vbench.execute.local import LocalExecutor
    server.PRELOAD = ("torch",)  # enough here, and quick
    running.GRACE = float(sys.argv[4])
    folder = Path(sys.argv[2])
    print("script", flush=True)
    executor = LocalExecutor(Limits("targets:call", folder), workers=2)
    jobs = [Job(f"job{i}", tuple(payload)) for i, payload in enumerate(json.loads(sys.argv[3]))]
    say = lambda *words: print(json.dumps(words), flush=True)
    lost = lambda job, *why: say("lost", job.key, *why)
    try:
        executor.run(jobs, lambda event: say(event.kind, event.key, event.status), lost)
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(130)
    assert "torch" not in sys.modules
"""


@contextlib.contextmanager
def driver(folder, *payloads, grace=4.0):
    """A script without a main guard, in a process group of its own as under a shell."""
    script = folder / "script.py"
    script.write_text(textwrap.dedent(DRIVER))
    command = [sys.executable, str(script), str(HERE), str(folder), json.dumps(payloads, default=str), str(grace)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        yield process
        process.kill()


def heard(process, kind, count):
    """Read the driver's lines until ``count`` of a kind have come; pytest's timeout is the limit."""
    lines = []
    while sum(line[0] == kind for line in lines) < count:
        line = process.stdout.readline()
        assert line, lines
        lines += [json.loads(line)] if line.startswith("[") else []
    return lines


def waited_for(path, count):
    while not path.exists() or len(path.read_text().splitlines()) < count:
        time.sleep(0.02)
    return [int(line) for line in path.read_text().splitlines()]


def test_an_unguarded_script_runs_once(tmp_path):
    with driver(tmp_path, ["ok"], ["fail"]) as process:
        lines = process.stdout.read().splitlines()
        assert process.wait() == 0
    assert lines.count("script") == 1
    assert '["ended", "job0", "done"]' in lines
    assert '["lost", "job1", "failed", "ValueError: boom"]' in lines
    assert "was not preloaded" in (tmp_path / "job0.log").read_text()


def test_a_request_to_end_is_as_ctrl_c_and_leaves_time_for_a_last_word(tmp_path):
    with driver(tmp_path, ["nap", 60], ["last_word"], ["ok"]) as process:
        heard(process, "progress", 1)
        began = time.monotonic()
        os.killpg(process.pid, signal.SIGTERM)
        lines = [json.loads(line) for line in process.stdout]
        assert process.wait() == -signal.SIGTERM
    assert time.monotonic() - began < 30  # the nap is of 60
    assert ["lost", "job0", "interrupted", "stopped by SIGTERM"] in lines
    assert ["ended", "job1", "partial"] in lines
    assert "job2" not in str(lines)


def test_a_second_ctrl_c_is_immediate(tmp_path):
    with driver(tmp_path, ["hang", tmp_path], ["hang", tmp_path], grace=50.0) as process:  # they sleep for 60
        pids = waited_for(tmp_path / "marks", 2)
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        began = time.monotonic()
        while process.poll() is None:  # on a busy machine, two that come close together are one
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
        assert process.returncode == 130
        assert time.monotonic() - began < 40  # the first would leave them 50
    assert all(gone(pid) for pid in pids)
