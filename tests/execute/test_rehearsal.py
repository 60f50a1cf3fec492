"""What a process does once before jobs are forked from it: all of a cell but its gradients, and nothing that stays."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from vbench import listing
from vbench.execute import rehearsal
from vbench.execute.rehearsal import rehearse

WITHOUT = """
import json, sys, threading, torch
from vbench import listing
from vbench.execute.rehearsal import rehearse
before = torch.get_rng_state()
rehearse()
plugins = [name for name in sys.modules if name.startswith("vbench_")]
same = bool((torch.get_rng_state() == before).all())
print(json.dumps([threading.active_count(), torch.get_num_threads(), len(listing._known), plugins, same]))
"""


def test_it_leaves_no_thread_no_plugin_no_name_and_the_same_chance() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [1, 1, 0, [], True]


def test_nothing_is_differentiated(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a process that has differentiated may not be forked")

    monkeypatch.setattr(torch.autograd, "backward", refuse)
    monkeypatch.setattr(torch.autograd, "grad", refuse)
    rehearse()


def test_names_are_forgotten_when_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        assert listing._known  # for this is what would stay
        raise RuntimeError

    monkeypatch.setattr(rehearsal, "build_choices", fail)
    listing.forget()
    with pytest.raises(RuntimeError):
        rehearse()
    assert not listing._known
