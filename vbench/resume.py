"""Where a long attempt goes on after it was cut short: all that training depends on, saved now and then.

What happens at a step is a function of (seed, step) and of what is saved here, so an attempt that goes on ends with the
bits of one that was never stopped. A point is used by the same code in the same environment only, else training begins
anew. It lies at ``results/<study>/resume/<key>.safetensors`` until the attempt has ended.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors.torch import load as read_tensors
from safetensors.torch import save as write_tensors
from torch import Tensor, nn

from vbench import store

__all__ = ["Points", "below", "packed", "unpacked"]

_NOTES = "vbench.notes"


class Points:
    """The point of one attempt.

    Args:
        path: its file; without one nothing is saved or loaded.
        every: seconds of training between two points; 0: none are saved.
        identity: what must be the same for a point to be used; JSON.
        notes: gives what else is kept, JSON, whenever a point is saved.
        start: a file that a shorter run of the same has left, to go on from where there is no point.
        leave: called at the end with tensors and notes: all that a next step would depend on.

    Attributes:
        step: training goes on after this one.
        bounds: of the steps since the last stop.
        course: notes of the course of training.
        continued: whether it is a shorter run that training goes on from.
        training: whether a request to end can wait for the end of a step.
    """

    def __init__(
        self,
        path: Path | None = None,
        every: float = 0.0,
        identity: Mapping[str, Any] | None = None,
        notes: Callable[[], Mapping[str, Any]] = dict,
        start: Path | None = None,
        leave: Callable[[Mapping[str, Tensor], Mapping[str, Any]], None] | None = None,
    ) -> None:
        self.path, self.every = path, every
        self.identity = json.loads(json.dumps(identity))
        self.notes = notes
        self.start, self.leave = start, leave
        self.step, self.continued = 0, False
        self.bounds: list[float] = []
        self.course: Mapping[str, Any] = {}
        self.training = False
        self._tensors: dict[str, Tensor] = {}
        self._last = time.monotonic()
        self._asked = False

    def load(self) -> Mapping[str, Any] | None:
        """The notes of the point that training goes on from; None where it begins anew."""
        found = self._read(self.path) if self.path and self.every else None
        return self._read(self.start) if found is None and self.start else found

    def _read(self, path: Path) -> Mapping[str, Any] | None:
        try:
            notes, tensors = unpacked(path)
            known = notes["identity"]
            if path == self.start:
                if notes["notes"]["paced"]:
                    return None
                known["key"] = self.identity["key"]
            if known != self.identity:
                return None
            self.continued = path == self.start
            self.step, self.bounds = notes["step"], notes["bounds"]
            self.course = notes["notes"].get("course", {})
            self._tensors = tensors
            return notes["notes"]  # type: ignore[no-any-return]
        except (store.DamagedError, KeyError, TypeError, ValueError):
            return None

    def restore(self, modules: Mapping[str, nn.Module], optimizer: Any, parameters: Sequence[Tensor]) -> None:
        """Put back what was saved, if a point was loaded."""
        if not self._tensors:
            return
        torch.set_rng_state(self._tensors["rng"])
        for name, module in modules.items():
            module.load_state_dict(below(f"{name}.", self._tensors))
        for name, tensor in below("optimizer.", self._tensors).items():
            place, _, field = name.partition(".")
            parameter = parameters[int(place)]
            slot: MutableMapping[str, Any] = optimizer.state[parameter]
            if field in slot:
                slot[field].copy_(tensor)
            else:  # torch's optimisers count on the host
                slot[field] = tensor if field == "step" else tensor.to(parameter.device)
        self._tensors = {}

    def keep(
        self,
        step: int,
        bounds: Sequence[float],
        modules: Mapping[str, nn.Module],
        optimizer: Any,
        parameters: Sequence[Tensor],
    ) -> None:
        """Save a point where one is due; a step is done and nothing else has begun.

        Raises:
            SystemExit: the attempt was asked to end, and the point is saved.
        """
        if not self._asked and (not self.every or time.monotonic() - self._last < self.every):
            return
        if self.every and self.path:
            self._save(step, bounds, modules, optimizer, parameters)
        if self._asked:
            raise SystemExit(f"stopped by SIGTERM after step {step}")
        self._last = time.monotonic()

    def finish(self, step: int, bounds: Sequence[float], modules: Any, optimizer: Any, parameters: Any) -> None:
        """No step follows this one: leave what was asked for."""
        if self.leave:
            self.leave(*self._all(step, bounds, modules, optimizer, parameters))

    def _save(self, step: int, bounds: Sequence[float], modules: Any, optimizer: Any, parameters: Any) -> None:
        tensors, notes = self._all(step, bounds, modules, optimizer, parameters)
        try:
            store.replace(packed(tensors, notes), self.path)  # type: ignore[arg-type]
        except (OSError, TypeError, ValueError) as problem:  # the attempt itself is none the worse for it
            print(f"vbench: no checkpoint after step {step}: {problem}", file=sys.stderr)

    def _all(
        self, step: int, bounds: Sequence[float], modules: Any, optimizer: Any, parameters: Any
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = dict(_tensors(modules, optimizer, parameters)) | {"rng": torch.get_rng_state()}
        return tensors, {"identity": self.identity, "step": step, "bounds": list(bounds), "notes": self.notes()}

    def remove(self) -> None:
        """It is of no use any more."""
        if self.path:
            with contextlib.suppress(OSError):  # the next run, or vbench clean, finds it
                self.path.unlink()

    def heed(self) -> None:
        """In a job's own process, let a request to end wait until the step at hand is done and saved."""
        own = multiprocessing.parent_process() is not None
        if own and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        if not self.training:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def _tensors(
    modules: Mapping[str, nn.Module], optimizer: Any, parameters: Sequence[Tensor]
) -> Iterator[tuple[str, Tensor]]:
    for name, module in modules.items():
        for entry, tensor in module.state_dict().items():
            yield f"{name}.{entry}", _copy(tensor)
    for place, parameter in enumerate(parameters):
        for field, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                yield f"optimizer.{place}.{field}", _copy(value)


def _copy(tensor: Tensor) -> Tensor:
    # a copy of its own: the format refuses tensors that share memory, as tied weights do
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def packed(tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> bytes:
    """A sealed file of tensors, and of notes that JSON can hold.

    Raises:
        TypeError, ValueError: these cannot be written.
    """
    return store.seal(write_tensors(dict(tensors), {_NOTES: json.dumps(notes), store.DIGEST_KEY: store.BLANK}))


def unpacked(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Notes and tensors of such a file.

    Raises:
        DamagedError: it is not what was written.
        KeyError, ValueError: it is of another kind.
    """
    data = store.read(path)
    size = int.from_bytes(data[:8], "little")
    return json.loads(json.loads(data[8 : 8 + size])["__metadata__"][_NOTES]), read_tensors(data)


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those whose names begin so, without that."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
