"""What an estimator promises besides its mean: shapes, precision, randomness, transforms, cost, control."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.func import vmap

from vbench.measure.evaluations import watch_decoder
from vbench.model import Model
from vbench.rng import Rng
from vbench.testing.bench import Bench
from vbench.testing.replicates import call, gradient_function, keys
from vbench.testing.verdict import Check, Outcome, Verdict
from vbench.types import Batch, Estimate, Trait

__all__ = ["contract_checks"]

_ROUNDING: Final = 1e-9


def contract_checks(bench: Bench) -> Iterator[Check]:
    """Named checks of one estimator on one model."""
    for name, question in (
        ("shapes", _shapes),
        ("dtype", _dtype),
        ("evaluations", _evaluations),
        ("globals", _globals),
        ("vmap", _vmap),
        ("lanes", _lanes),
        ("control", _control),
        ("device", _device),
    ):
        yield Check(f"{name}[{bench.label}]", lambda q=question: q(bench))  # type: ignore[misc]


def passed(figure: str = "") -> Outcome:
    """PASS."""
    return Outcome(Verdict.PASS, figure)


def failed(figure: str) -> Outcome:
    """FAIL."""
    return Outcome(Verdict.FAIL, figure)


def estimate(model: Model, estimator: Any, batch: Batch, key: int = 1) -> Estimate:
    """One estimate, whatever tuple it comes as."""
    return Estimate(*estimator(model, batch, Rng(key)))


def gradients(model: Model, estimator: Any, batch: Batch, key: int = 1) -> dict[str, Tensor]:
    """Gradient of the mean surrogate for every trained parameter of both, by name."""
    named = {f"model.{n}": p for n, p in model.named_parameters() if p.requires_grad}
    named |= {f"estimator.{n}": p for n, p in estimator.named_parameters() if p.requires_grad}
    surrogate = estimate(model, estimator, batch, key).surrogate.mean()
    found = torch.autograd.grad(surrogate, list(named.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(named, found, strict=True))


def _shapes(bench: Bench) -> Outcome:
    model, estimator, batch = bench.model(), bench.estimator(), bench.batch()
    size = len(batch.x)
    value, surrogate, info = estimate(model, estimator, batch)
    coupled = bool(getattr(estimator, "coupled", False))
    if value.shape != (size,):
        return failed(f"value has shape {tuple(value.shape)}, expected {(size,)}")
    if surrogate.shape not in ((size,), ()):
        return failed(f"surrogate has shape {tuple(surrogate.shape)}, expected {(size,)}")
    if surrogate.shape == () and not coupled:
        return failed("a surrogate of one number for the batch: data interact, so declare coupled = True")
    if value.requires_grad:
        return failed("value carries a gradient: detach it")
    if not surrogate.requires_grad:
        return failed("surrogate carries no gradient")
    if not bool(value.isfinite().all() and surrogate.isfinite().all()):
        return failed("value or surrogate is not finite")
    wrong = [name for name, tensor in info.items() if not isinstance(tensor, Tensor)]
    if wrong:
        return failed(f"info {wrong[0]!r} is no tensor")
    bad = [name for name, g in gradients(model, estimator, batch).items() if not g.isfinite().all()]
    return failed(f"the gradient of {bad[0]} is not finite") if bad else passed(f"[{size}]")


def _dtype(bench: Bench) -> Outcome:
    for dtype in (torch.float32, torch.float64):
        model, estimator, batch = bench.model().to(dtype), bench.estimator().to(dtype), bench.batch()
        seen: set[torch.dtype] = set()
        watch_decoder(model, lambda z, _, s=seen: s.add(z.dtype))  # type: ignore[misc]
        made = estimate(model, estimator, batch._replace(x=batch.x.to(dtype)))
        for name, found in (("value", made.value.dtype), ("surrogate", made.surrogate.dtype)):
            if found != dtype:
                return failed(f"{name} is {found} in a {dtype} model")
        if not seen <= {dtype}:
            return failed(f"the decoder is asked in {seen - {dtype}} in a {dtype} model")
    return passed("float32, float64")


def _evaluations(bench: Bench) -> Outcome:
    """The declared number of decoder evaluations is made, no more and no fewer."""
    model, estimator, batch = bench.model(), bench.estimator(), bench.batch()
    seen: list[float] = []
    watch_decoder(model, lambda z, share: seen.append(z.shape[0] * z.shape[1] * share))
    estimate(model, estimator, batch)
    made, declared = sum(seen) / len(batch.x), getattr(estimator, "evaluations", estimator.k)
    if bench.k is not None and estimator.k != bench.k:
        return failed(f"made with k={bench.k}, says k={estimator.k}")
    figure = f"declares {declared} decoder evaluations per datum, makes {made:g}"
    return passed(figure) if abs(made - declared) < _ROUNDING else failed(figure)


def _state() -> tuple[Any, ...]:
    numbers = np.random.get_state(legacy=True)  # noqa: NPY002 - the global one is what is watched
    assert isinstance(numbers, tuple)  # noqa: S101 - tells the type checker what legacy means
    return (
        torch.random.get_rng_state().numpy().tobytes(),
        (numbers[0], numbers[1].tobytes(), *numbers[2:]),
        random.getstate(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.get_num_threads(),
    )


_STATES: Final = (
    "torch's generator",
    "numpy's generator",
    "python's generator",
    "the default dtype",
    "the grad mode",
    "the number of threads",
)


def _globals(bench: Bench) -> Outcome:
    """Randomness is the argument and nothing else, and a call leaves nothing behind."""
    model, estimator, batch = bench.model(), bench.estimator(), bench.batch()
    before = _state()
    kept = {name: t.clone() for name, t in [*model.state_dict().items(), *estimator.state_dict().items()]}
    first = estimate(model, estimator, batch, 1)
    first.surrogate.mean().backward()  # type: ignore[no-untyped-call]
    after = _state()
    touched = [name for name, a, b in zip(_STATES, before, after, strict=True) if a != b]
    torch.set_default_dtype(before[3])
    torch.set_grad_enabled(before[4])
    if touched:
        return failed(f"touches {', '.join(touched)}: take all randomness from rng")
    moved = [
        n for n, t in [*model.state_dict().items(), *estimator.state_dict().items()] if not torch.equal(kept[n], t)
    ]
    if moved:
        return failed(f"a call changes {moved[0]}: what adapts moves through the surrogate")
    again = estimate(model, estimator, batch, 1)
    if not (torch.equal(first.value, again.value) and torch.equal(first.surrogate, again.surrogate)):
        return failed("the same key gives another estimate: take all randomness from rng")
    return passed()


def _vmap(bench: Bench) -> Outcome:
    """Runs under vmap with randomness="error", and gives there what it gives alone."""
    model, estimator, batch = bench.model(), bench.estimator(), bench.batch()
    chosen = keys(4, 3)
    lanes, values = vmap(gradient_function(model, estimator, batch), randomness="error")(chosen)
    worst = 0.0
    for lane, key in enumerate(chosen):
        made = estimate(model, estimator, batch, int(key))
        worst = max(worst, _distance(values[lane], made.value))
        for name, alone in gradients(model, estimator, batch, int(key)).items():
            if name in lanes:
                worst = max(worst, _distance(lanes[name][lane], alone))
    figure = f"vmap and loop differ by {worst:.1e}"
    return passed(figure) if worst < _ROUNDING else failed(figure)


def _distance(a: Tensor, b: Tensor) -> float:
    """Largest relative difference; anything not finite is infinitely far."""
    if a.numel() == 0:
        return 0.0
    distance = float((a - b).abs().max()) / max(float(b.abs().max()), 1e-3)
    return distance if distance == distance else float("inf")


def _lanes(bench: Bench) -> Outcome:
    """A lane of a group, with parameters of its own, gives what it gives alone."""
    parameters, one = call(bench.model(), bench.estimator(), bench.batch())
    generator = torch.Generator().manual_seed(5)
    groups = {
        name: p + 0.1 * torch.randn(3, *p.shape, generator=generator, dtype=torch.float64).to(p)
        for name, p in parameters.items()
    }
    chosen = keys(3, 4)
    step = vmap(one, randomness="error")
    together, values = step(groups, chosen)
    worst = 0.0
    for lane in range(3):
        alone, value = step({name: p[lane : lane + 1] for name, p in groups.items()}, chosen[lane : lane + 1])
        worst = max(worst, _distance(values[lane], value[0]))
        worst = max(worst, *(_distance(together[name][lane], g[0]) for name, g in alone.items()))
    figure = f"alone and in a group differ by {worst:.1e}"
    return passed(figure) if worst < _ROUNDING else failed(figure)


def _control(bench: Bench) -> Outcome:
    """Whatever adapts gets a gradient through the surrogate."""
    model, estimator, batch = bench.model(), bench.estimator(), bench.batch()
    own = {name: p for name, p in estimator.named_parameters() if p.requires_grad}
    if not own:
        return passed("nothing of its own")
    found = gradients(model, estimator, batch)
    idle = [name for name in own if not found[f"estimator.{name}"].any()]
    return failed(f"{idle[0]} gets no gradient") if idle else passed(f"{len(own)} parameters")


def _device(bench: Bench) -> Outcome:
    """Runs on an accelerator, where there is one."""
    if not torch.cuda.is_available():
        return passed("cpu; no accelerator here")
    model, estimator, batch = bench.model().cuda(), bench.estimator().cuda(), bench.batch()
    mask = None if batch.mask is None else batch.mask.cuda()
    batch = batch._replace(x=batch.x.cuda(), index=batch.index.cuda(), mask=mask)
    made = Estimate(*estimator(model, batch, Rng(1, "cuda")))
    return passed("cuda") if made.surrogate.is_cuda else failed(f"the surrogate is on {made.surrogate.device}")


NEEDS_OF_ATTRIBUTE: Final = {
    "logits": {Trait.LOGITS, Trait.ENUMERABLE, Trait.RELAXABLE},
    "loc": {Trait.LOC_SCALE},
    "scale": {Trait.LOC_SCALE},
    "kl": {Trait.KL},
    "log_prob": {Trait.DENSITY, Trait.NORMALIZED},
}
