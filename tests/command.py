"""The command line: called in this process, or several times in one fresh interpreter.

Loading torch costs a process seconds. A test asks for a process of its own where that is what it is about.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner, Result

from vbench.cli import main


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def called(*arguments: str, folder: Path) -> Done:
    """A command in this process, typed in ``folder``; what is no mistake of the user is raised."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("COLUMNS", "80")
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        done: Result = CliRunner().invoke(main, arguments, prog_name="vbench", catch_exceptions=False)
    return Done(done.exit_code, done.stdout, done.stderr)


def python(
    *arguments: str, folder: Path, path: Sequence[Path] = (), given: str = ""
) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter in ``folder``, with the folders of ``path`` on its path; pytest's timeout is its limit."""
    environment = os.environ | {"COLUMNS": "80", "XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([*map(str, path), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )


def vbench(*arguments: str, folder: Path, path: Sequence[Path] = ()) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    return python("-m", "vbench", *arguments, folder=folder, path=path)


_ALL = """
import json, sys
from click.testing import CliRunner
from vbench.cli import main
ends = [CliRunner().invoke(main, call, prog_name="vbench", catch_exceptions=False) for call in json.load(sys.stdin)]
print(json.dumps([(end.exit_code, end.stdout, end.stderr) for end in ends]))
"""


def together(*calls: Sequence[str], folder: Path, path: Sequence[Path] = ()) -> list[Done]:
    """Several commands, one after the other in one fresh interpreter that knows the plugins of ``path``."""
    done = python("-c", _ALL, folder=folder, path=path, given=json.dumps(calls))
    assert done.returncode == 0, done.stderr
    return [Done(*end) for end in json.loads(done.stdout.splitlines()[-1])]
