"""The training loop against one written out with torch's own means."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from tests import toys
from vbench.assemble import Built
from vbench.batches import Order, TrainingBatches
from vbench.builtin.datasets.tensors import TensorDataset
from vbench.course import Course
from vbench.estimators.nvil import nvil
from vbench.estimators.reparam import reparam
from vbench.families import DiagonalNormal
from vbench.grid import Budget, Inner, Train
from vbench.measure.throughput import Stopwatch
from vbench.resume import Points
from vbench.rng import Rng, derive
from vbench.training import Diverged, train
from vbench.types import Encoder, Estimate, Estimator, Incompatible, Space

PIXELS = torch.randint(0, 256, (40, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
DATA = TensorDataset(PIXELS, PIXELS, PIXELS, toys.X, "0" * 64, "dynamic")
SEED = 3


class Whole(Estimator):
    """One number for the whole batch, as where data interact."""

    def forward(self, model, batch, rng):
        estimate = reparam()(model, batch, rng)
        return Estimate(estimate.value, estimate.surrogate.mean())


def cell(estimator):
    torch.manual_seed(5)  # the controls' parameters
    offers = frozenset({"trained-encoder", "trained-decoder"})
    return Built(toys.gaussian(prior="standard").float(), estimator(), DATA, offers)


def trained(estimator, settings, stops=(40,)):
    built = cell(estimator)
    pauses = list(train(built, settings, SEED, stops, Stopwatch(), lambda step, steps: None))
    return built, pauses


def written_out(estimator, settings):
    model, rule, _, _ = cell(estimator)
    own = [{"params": list(rule.parameters()), "lr": rule.lr}] if list(rule.parameters()) else []
    optimizer = torch.optim.Adam([{"params": list(model.parameters())}, *own], settings.lr, fused=True)
    order = Order(40, settings.batch, derive("order", SEED))
    batches = TrainingBatches(DATA, settings.steps, derive("data", SEED), order)
    bounds = []
    for step in range(settings.steps):
        estimate = rule(model, batches[step], Rng(derive("noise", SEED, step)))
        optimizer.zero_grad()
        (-estimate.surrogate.mean()).backward()
        if settings.clip:
            nn.utils.clip_grad_norm_([*model.parameters(), *rule.parameters()], settings.clip)
        optimizer.step()
        bounds.append(float(estimate.value.mean()))
    return model, rule, bounds


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("estimator", [reparam, lambda: nvil(toys.X, lr=0.02), Whole], ids=["reparam", "nvil", "whole"])
def test_training_is_the_plain_loop_bit_for_bit(estimator, clip):
    settings = Train(steps=40, batch=8, lr=0.01, clip=clip)
    built, ((_, bounds),) = trained(estimator, settings)
    model, rule, expected = written_out(estimator, settings)
    assert bounds == expected
    ours, theirs = ([*a.parameters(), *b.parameters()] for a, b in ((built.model, built.estimator), (model, rule)))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert all(a != b for a, b in pairwise(bounds))


def loop_written_out(estimator, settings, part):
    """Alternately: the part alone, then all but the part, at last both; the estimator's own always."""
    model, rule, _, _ = cell(estimator)
    own = [{"params": list(rule.parameters()), "lr": rule.lr}] if list(rule.parameters()) else []
    optimizer = torch.optim.Adam([{"params": list(model.parameters())}, *own], settings.lr, fused=True)
    batches = TrainingBatches(DATA, settings.steps, derive("data", SEED), Order(40, 8, derive("order", SEED)))
    n, inside = settings.inner.steps, set(getattr(model, part).parameters())
    others = TrainingBatches(
        DATA, settings.steps * n, derive("inner data", SEED), Order(40, 8, derive("inner order", SEED))
    )

    def move(batch, rng, still):
        optimizer.zero_grad()
        (-rule(model, batch, rng).surrogate.mean()).backward()
        for parameter in still:
            parameter.grad = None
        if settings.clip:
            nn.utils.clip_grad_norm_([*model.parameters(), *rule.parameters()], settings.clip)
        optimizer.step()

    for step in range(settings.steps):
        looped = step < settings.inner.until * settings.steps
        for i in range(n if looped else 0):
            batch = batches[step] if settings.inner.batches == "same" else others[step * n + i]
            outside = [p for p in model.parameters() if p not in inside]
            move(batch, Rng(derive("inner noise", SEED, step, i)), outside)
        move(batches[step], Rng(derive("noise", SEED, step)), inside if looped else ())
    return model, rule


@pytest.mark.parametrize(
    ("inner", "clip"),
    [
        (Inner(steps=3), None),
        (Inner(steps=2, batches="fresh"), 0.5),
        (Inner(steps=2, until=0.35), None),
        (Inner(part="decoder", steps=2), None),
    ],
    ids=["same", "fresh, clipped", "at first", "decoder"],
)
@pytest.mark.parametrize("estimator", [reparam, lambda: nvil(toys.X, lr=0.02)], ids=["reparam", "nvil"])
def test_an_inner_loop_is_the_one_written_out(estimator, inner, clip):
    settings = Train(steps=12, batch=8, lr=0.01, clip=clip, inner=inner)
    built, pauses = trained(estimator, settings, stops=(12,))
    model, rule = loop_written_out(estimator, settings, inner.part)
    ours, theirs = ([*a.parameters(), *b.parameters()] for a, b in ((built.model, built.estimator), (model, rule)))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert [len(bounds) for _, bounds in pauses] == [12]
    plain, _ = trained(estimator, Train(steps=12, batch=8, lr=0.01, clip=clip), stops=(12,))
    assert not any(torch.equal(a, b) for a, b in zip(plain.model.parameters(), model.parameters(), strict=True))


def written_out_by_torch(settings):
    """Plain AdamW under torch's own schedulers, clipped."""
    model, rule, _, _ = cell(reparam)
    optimizer = torch.optim.AdamW(model.parameters(), settings.lr, fused=True)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    warm = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / settings.warmup, total_iters=settings.warmup - 1)
    batches = TrainingBatches(DATA, settings.steps, derive("data", SEED), Order(40, 8, derive("order", SEED)))
    for step in range(settings.steps):
        optimizer.zero_grad()
        (-rule(model, batches[step], Rng(derive("noise", SEED, step))).surrogate.mean()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.step()
        cosine.step()
        warm.step()
    return model


def test_a_scheduled_run_is_the_one_written_out():
    settings = Train(steps=40, batch=8, lr=0.01, clip=0.5, optimizer="adamw", schedule="cosine", warmup=10)
    built, _ = trained(reparam, settings)
    pairs = list(zip(built.model.parameters(), written_out_by_torch(settings).parameters(), strict=True))
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in pairs)
    for other in ({"schedule": "linear"}, {"warmup": 9}):  # what clips has little say in Adam's steps
        model = trained(reparam, settings.model_copy(update=other))[0].model
        assert not all(
            torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, (_, b) in zip(model.parameters(), pairs, strict=True)
        )


class Table(Encoder):
    """A mean of its own for every datum, at scale 1/2; its Fisher information is 4."""

    def __init__(self):
        super().__init__()
        self.z, self.natural_step = Space((2,)), 0.3
        self.loc = nn.Parameter(torch.linspace(-1, 1, 80).reshape(40, 2))

    def forward(self, batch, model):
        loc = self.loc[batch.index]
        return DiagonalNormal(loc, torch.full_like(loc, 0.5))

    def fisher(self):
        return {self.loc: torch.full_like(self.loc, 4.0)}


def cell_of(optimizer):
    built = cell(reparam)
    if optimizer == "natural-gradient":
        built.model.encoder = Table()
        return built._replace(offers=frozenset({"natural"}))
    return built


def tabled(**changes):
    built = cell_of("natural-gradient")
    settings = Train(steps=1, batch=8, lr=0.01, optimizer="natural-gradient").model_copy(update=changes)
    list(train(built, settings, SEED, (), Stopwatch(), lambda step, steps: None))
    return built.model


@pytest.mark.parametrize("factor", [1, 0.25])
def test_natural_gradients_move_each_row_by_its_own(factor):
    """By rho F^-1 of the gradient of its own datum's bound; the others as Adam does, wherever the rows are."""
    wanted = cell_of("natural-gradient").model
    batch = TrainingBatches(DATA, 1, derive("data", SEED), Order(40, 8, derive("order", SEED)))[0]
    bounds = reparam()(wanted, batch, Rng(derive("noise", SEED, 0))).surrogate
    (gradient,) = torch.autograd.grad(bounds.sum(), wanted.encoder.loc, retain_graph=True)
    expected = wanted.encoder.loc.detach() + factor * 0.3 / 4 * gradient
    found = tabled(warmup=round(1 / factor))
    torch.testing.assert_close(found.encoder.loc, expected)
    wrong = wanted.encoder.loc.detach() + factor * 0.3 / 4 * gradient / len(batch.x)  # of the mean over the batch
    assert not torch.allclose(found.encoder.loc, wrong, atol=1e-3)
    others = [*wanted.decoder.parameters(), *wanted.prior.parameters()]
    adam = torch.optim.Adam(others, factor * 0.01, fused=True)
    for p, g in zip(others, torch.autograd.grad(-bounds.mean(), others), strict=True):
        p.grad = g
    adam.step()
    for p, q in zip([*found.decoder.parameters(), *found.prior.parameters()], others, strict=True):
        assert torch.equal(p, q)


def test_an_encoder_without_natural_gradients_says_so():
    settings = Train(steps=1, batch=8, optimizer="natural-gradient")
    with pytest.raises(Incompatible, match="needs an encoder that tells the Fisher information"):
        trained(reparam, settings)


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adam", "adamw", "natural-gradient"])
@pytest.mark.parametrize("schedule", ["cosine", "linear", "step"])
def test_a_scheduled_run_that_was_cut_short_goes_on_with_its_bits(optimizer, schedule, tmp_path):
    settings = Train(
        **{"steps": 12, "batch": 8, "lr": 0.01, "clip": 0.5, "optimizer": optimizer},
        **{"schedule": schedule, "warmup": 4, "step_size": 3},
    )
    whole = cell_of(optimizer)
    list(train(whole, settings, SEED, (12,), Stopwatch(), lambda *_: None))

    def points(course):
        notes = {"notes": lambda: {"course": course.notes()}}
        return Points(tmp_path / "point", every=1e-9, identity={"key": "one"}, **notes)

    course = Course(settings)
    first = train(cell_of(optimizer), settings, SEED, (7, 12), Stopwatch(), lambda *_: None, points(course), course)
    assert next(first)[0] == 7
    first.close()
    again, built = points(Course(settings)), cell_of(optimizer)
    assert again.load() is not None
    assert [step for step, _ in train(built, settings, SEED, (12,), Stopwatch(), lambda *_: None, again)] == [12]
    assert again.step == 7
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), built.model.parameters(), strict=True))


def test_an_inner_loop_over_nothing_is_no_fault():
    with pytest.raises(Incompatible, match="loops over the prior, and the prior has nothing to train"):
        trained(reparam, Train(steps=2, batch=8, inner=Inner(part="prior")), stops=(2,))


def test_pauses_change_nothing_and_share_out_the_steps():
    settings = Train(steps=40, batch=8)
    whole, ((last, bounds),) = trained(reparam, settings)
    cut, pauses = trained(reparam, settings, stops=(1, 17, 40))
    assert last == 40
    assert [step for step, _ in pauses] == [1, 17, 40]
    assert [len(part) for _, part in pauses] == [1, 16, 23]
    assert [b for _, part in pauses for b in part] == bounds
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), cut.model.parameters(), strict=True))


class Following(Estimator):
    """What follows the share of training that is done."""

    def forward(self, model, batch, rng):
        estimate = reparam()(model, batch, rng)
        return estimate._replace(surrogate=estimate.surrogate * (1 + batch.progress))


def test_a_budget_of_evaluations_is_the_steps_that_it_pays_for():
    """Order, noise and share are those of as many steps: the same bits."""
    budget = Train(batch=8, budget=Budget(evaluations=2 * 8 * 20))
    built, told = cell(Following), []
    course = Course(budget, 8)
    course.price = 2
    pauses = list(train(built, budget, SEED, (7,), Stopwatch(), lambda *now: told.append(now), course=course))
    whole, expected = trained(Following, Train(steps=20, batch=8), stops=(7, 20))
    assert pauses == expected
    assert all(torch.equal(a, b) for a, b in zip(built.model.parameters(), whole.model.parameters(), strict=True))
    assert told[-1] == (20, 20)
    assert (course.step, course.updates, course.ended_by, course.spent) == (20, 20, "evaluations", 320)


@pytest.mark.parametrize("batches", ["same", "fresh"])
def test_of_a_budget_inner_loops_have_their_share(batches):
    settings = Train(batch=8, inner=Inner(steps=3, batches=batches, until=0.4), budget=Budget(evaluations=2 * 8 * 44))
    course = Course(settings, 8)
    course.price = 2
    ((last, bounds),) = train(cell(Following), settings, SEED, (), Stopwatch(), lambda *now: None, course=course)
    assert (last, len(bounds), course.updates) == (29, 29, 44)  # five steps with a loop, 16 of 44 before the last one


def test_whoever_measures_may_end_it():
    course, pauses = Course(Train(steps=40, batch=8)), []
    for step, _ in train(cell(reparam), course.settings, SEED, range(10, 99, 10), Stopwatch(), print, course=course):
        pauses.append(step)
        if step == 20:
            course.ended_by = "patience"
    assert pauses == [10, 20]
    assert course.step == 20


def test_the_watch_runs_while_training_does():
    watch, told = Stopwatch(), []
    for _ in train(cell(reparam), Train(steps=45, batch=8), SEED, (45,), watch, lambda *now: told.append(now)):
        pass
    assert watch.steps == 45
    assert told == [(20, 45), (40, 45), (45, 45)]


def test_a_divergence_is_told_at_its_step():
    class Falling(Estimator):
        def forward(self, model, batch, rng):
            estimate = reparam()(model, batch, rng)
            return estimate._replace(value=estimate.value / (batch.progress < 6 / 40))

    with pytest.raises(Diverged, match=r"^step 7: the objective is -inf$"):
        trained(Falling, Train(steps=40, batch=8))


def test_a_parameter_that_is_not_finite_is_named_at_the_stop():
    class Poison(Estimator):
        def forward(self, model, batch, rng):
            estimate = reparam()(model, batch, rng)
            return estimate._replace(surrogate=estimate.surrogate + torch.nan * model.decoder.net[-1].bias.sum())

    with pytest.raises(Diverged, match=r"^step 1: parameter decoder\.net\.2\.bias is not finite$"):
        trained(Poison, Train(steps=40, batch=8), stops=(1, 40))
    with pytest.raises(Diverged, match=r"^step 1: parameter .* is not finite$"):
        trained(Poison, Train(steps=40, batch=8))
