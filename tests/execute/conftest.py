from pathlib import Path

import pytest

from tests.execute.seen import Seen


@pytest.fixture(autouse=True)
def targets_importable(monkeypatch):
    """The driver's path is the jobs' path: they import ``targets`` by this name."""
    monkeypatch.syspath_prepend(Path(__file__).parent)


@pytest.fixture
def seen(tmp_path):
    return Seen(tmp_path)
