"""Lets the tests find their models, and run from the source tree where the package is not installed."""

import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
if find_spec("vbench_completion") is None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
