"""Runs the tests from the source tree where the package is not installed."""

import sys
from importlib.util import find_spec
from pathlib import Path

if find_spec("vbench_autoregressive") is None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
