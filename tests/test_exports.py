"""The public names, and that importing the package stays cheap."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec

import pytest

import vbench

CONTRACT = {
    *("Batch", "Draw", "Estimate", "Space", "Trait", "Rng", "Model", "frozen", "Posterior", "Density", "Encoder"),
    *("Decoder", "Prior", "Likelihood", "Bound", "Estimator", "Dataset", "hookimpl", "build", "gradient_moments"),
    *("load", "run", "compare"),
}


def test_all_is_sorted_and_complete() -> None:
    assert sorted(vbench.__all__) == sorted(set(vbench.__all__))
    assert set(vbench.__all__) >= CONTRACT
    assert set(vbench.__all__) == set(vbench._HOME)


@pytest.mark.parametrize("name", vbench.__all__)
def test_name_is_there(name: str) -> None:
    assert getattr(vbench, name) is not None
    assert callable(getattr(vbench, name)) or name == "Trait"
    # importing a module puts it in the place of a function of its name
    assert find_spec(f"vbench.{name}") is None


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        vbench.nonsense  # noqa: B018


def test_the_version_is_that_of_the_distribution() -> None:
    assert vbench.__version__ == metadata.version("vbench")


HEAVY = ["torch", "pandas", "scipy", "matplotlib"]
LIGHT = [
    "vbench",
    "vbench.cli",
    "vbench.grid",
    "vbench.listing",
    "vbench.hookspecs",
    "vbench.scaffold",
    "vbench.plot",
    "vbench.report.comparison",
]


@pytest.mark.parametrize("module", LIGHT)
def test_does_not_load_torch(module: str) -> None:
    code = f"import sys, vbench, {module}; vbench.__version__; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
