"""Particle filters against all that can happen on a short chain: value and gradient of each part."""

import functools

import pytest
import torch
from vbench_sequence import vbench_estimators
from vbench_sequence.filtering import ParticleFilter, WholeSequences
from vbench_sequence.fivo import fivo
from vbench_sequence.resampling import ancestors

from tests.gradients import PARTS, judge
from vbench import ELBO, IWAE, Estimate, Filtering, Model, Pathwise, Rng, frozen, sequences
from vbench.oracles import state_space
from vbench.testing import chains
from vbench.testing.models import expanded
from vbench.testing.replicates import by_part, row_gradients

N = 5000
SCHEMES = ("multinomial", "stratified", "systematic")
METHODS = [("always", "multinomial", 2), *((s, scheme, 3) for s in ("always", "adaptive") for scheme in SCHEMES)]
THRESHOLD = 0.7
every = pytest.mark.parametrize(("schedule", "scheme", "k"), METHODS)


@functools.cache
def exact(schedule, scheme, k, ancestors="exact"):
    """Bound ``[B]`` and the gradient of its mean by part: exact, or the expectation of what ``ancestors`` says."""
    model, batch = chains.chain(), chains.chain_batch()
    particles = state_space.Particles(k, schedule, scheme, THRESHOLD)
    histories = chains.histories(model, batch)
    value = state_space.bound_value(histories, particles, ancestors)
    slopes = torch.autograd.grad(value.mean(), [p for _, p in model.named_parameters()])
    named = dict(zip((name for name, _ in model.named_parameters()), slopes, strict=True))
    return value.detach(), by_part(named)


@functools.cache
def evidence():
    histories = chains.histories(chains.chain(), chains.chain_batch())
    return state_space.mean_estimate(histories, state_space.Particles(1, "never")).detach()


def drawn(estimator, n=N, seed=0):
    """Values ``[n, B]`` and gradients of the batch mean by part ``[n, p]``."""
    gradients, value = row_gradients(chains.chain(), estimator, chains.chain_batch(), n, seed)
    return value.reshape(n, 3), {part: g.reshape(n, 3, -1).mean(1) for part, g in gradients.items()}


def passes(estimator, truth, seed=0):
    value, gradients = drawn(estimator, seed=seed)
    expected, slopes = truth
    found = {"value": judge(value, expected)} | {part: judge(gradients[part], slopes[part]) for part in PARTS}
    return {part for part, verdict in found.items() if verdict.passed}


def made(schedule, scheme, k, score=False):
    return ParticleFilter(k, schedule, scheme, THRESHOLD, score)


EVERYTHING = {"value", *PARTS}


@every
def test_value_and_gradient_are_what_the_enumeration_says(schedule, scheme, k):
    assert passes(made(schedule, scheme, k), exact(schedule, scheme, k, "dropped"), seed=k) == EVERYTHING
    assert passes(made(schedule, scheme, k, score=True), exact(schedule, scheme, k, "weights"), seed=9) == EVERYTHING


@every
def test_the_estimate_is_unbiased_however_it_resamples(schedule, scheme, k):
    model, batch = expanded(chains.chain(), chains.chain_batch(), 4 * N)
    with torch.no_grad():
        estimate = (made(schedule, scheme, k)(model, batch, Rng(4)).value.reshape(-1, 3) - evidence()).exp()
    error = (estimate.mean(0) - 1) / (estimate.std(0) / len(estimate) ** 0.5)
    assert error.abs().max() < 4.5


@every
def test_the_ancestors_score_is_all_that_is_missing_where_ancestors_are_drawn_independently(schedule, scheme, k):
    truth, kept, dropped = (exact(schedule, scheme, k, what)[1] for what in ("exact", "weights", "dropped"))
    whole = torch.cat([*truth.values()]).norm()
    bias = {
        name: torch.cat([found[part] - truth[part] for part in PARTS]).norm() / whole
        for name, found in (("kept", kept), ("dropped", dropped))
    }
    assert bias["dropped"] > 0.05
    assert (bias["kept"] < 1e-10) == (scheme == "multinomial")
    # noise of two values never crosses the adaptive schedule's threshold; that of a normal does
    assert made(schedule, scheme, k, score=True).unbiased == ((schedule, scheme) == ("always", "multinomial"))
    assert not made(schedule, scheme, k).unbiased


def test_the_dropped_score_is_a_bias_that_draws_show_and_the_kept_one_is_none():
    truth = exact("always", "multinomial", 3)
    assert passes(made("always", "multinomial", 3), truth) < EVERYTHING
    assert passes(made("always", "multinomial", 3, score=True), truth) == EVERYTHING


def test_some_data_resample_and_others_do_not():
    model, batch = chains.chain(), chains.chain_batch()
    found = []

    class Watched(ParticleFilter):
        def _selected(self, state, log_w, past, rng):
            new = super()._selected(state, log_w, past, rng)
            found.append((new[1] == 0).all(0))
            return new

    for seed in range(40):
        Watched(3, "adaptive", "systematic", THRESHOLD, False)(model, batch, Rng(seed))
    chosen = torch.stack(found)
    assert (chosen.any(1) & ~chosen.all(1)).any()
    assert (chosen.any(0) & ~chosen.all(0)).any()


def test_without_resampling_it_is_the_bound_of_whole_sequences():
    model, batch = chains.chain(), chains.chain_batch()
    core = (Pathwise(IWAE(), 3), fivo(k=3, schedule="never")), (Pathwise(ELBO(), 3), WholeSequences(ELBO(), 3))
    for whole, steps in core:
        gradients = []
        for estimator in (whole, steps):
            made_ = estimator(model, batch, Rng(6))
            gradients.append(torch.autograd.grad(made_.surrogate.mean(), [*model.parameters()]))
            gradients[-1] = [made_.value, *gradients[-1]]
        for a, b in zip(*gradients, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    never = fivo(k=3, schedule="never")
    assert never.unbiased
    assert isinstance(never.bound, IWAE)


def test_presets():
    registered = vbench_estimators()
    wanted = {
        "fivo": Filtering("adaptive", "multinomial", 0.5),
        "aesmc": Filtering("always", "systematic"),
        "vsmc": Filtering("always", "stratified"),
        "sequence-elbo": ELBO(),
        "sequence-iwae": IWAE(),
    }
    assert {name: factory().bound for name, factory in registered.items()} == wanted
    kept = {name: registered[name](ancestors="score").unbiased for name in ("fivo", "aesmc", "vsmc")}
    assert not any(kept.values())
    assert registered["aesmc"](scheme="multinomial", ancestors="score").unbiased
    assert registered["fivo"](k=1).unbiased


class NotReset(ParticleFilter):
    """Weights go on after resampling."""

    def _selected(self, state, log_w, past, rng):
        new, _, past = super()._selected(state, log_w, past, rng)
        return new, log_w, past


class OwnState(ParticleFilter):
    """Ancestors are drawn, and every particle goes on from its own recurrent state."""

    def _selected(self, state, log_w, past, rng):
        return state, *super()._selected(state, log_w, past, rng)[1:]


class SumOfWeights(ParticleFilter):
    """Log K is missing, once for each generation."""

    def _step_bound(self, log_w):
        return log_w.logsumexp(0)


class MaskIgnored(ParticleFilter):
    """Padding is data."""

    def forward(self, model, batch, rng):
        return super().forward(model, batch._replace(mask=None), rng)


class WholeScore(ParticleFilter):
    """Ancestors are scored by weights that were not normalised."""

    def _selected(self, state, log_w, past, rng):
        parents = ancestors(log_w.detach().softmax(0), self.scheme, Rng(rng.key))
        state, log_w, new = super()._selected(state, log_w, past, rng)
        extra = past.total + (0 * parents).sum(0) + IWAE()(log_w)
        return state, log_w, new._replace(drawn=new.drawn + extra - extra.detach())


class DroppedPrior(ParticleFilter):
    """The prior's gradient is lost."""

    def forward(self, model, batch, rng):
        return super().forward(Model(model.encoder, model.decoder, frozen(model).prior), batch, rng)


TWINS = {
    NotReset: {"value"},
    OwnState: {"value"},
    SumOfWeights: {"value"},
    MaskIgnored: {"value", "encoder", "decoder", "prior"},
    DroppedPrior: {"prior"},
}


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.__name__)
def test_a_wrong_twin_fails_where_it_is_wrong(twin):
    found = passes(twin(3, "always", "multinomial", THRESHOLD, True), exact("always", "multinomial", 3))
    assert not TWINS[twin] & found
    if twin in (SumOfWeights,):
        assert found < EVERYTHING
    if twin is DroppedPrior:
        assert found == EVERYTHING - {"prior"}


def test_a_score_that_is_not_normalised_is_found():
    found = passes(WholeScore(3, "always", "multinomial", THRESHOLD, True), exact("always", "multinomial", 3))
    assert "value" in found
    assert found < EVERYTHING


def test_shapes_precision_and_padding_that_is_not_a_number():
    batch = chains.chain_batch(5)
    for dtype in (torch.float32, torch.float64):
        x = torch.where(batch.mask, batch.x, torch.nan).to(dtype)
        estimate = fivo(k=3)(chains.chain().to(dtype), batch._replace(x=x), Rng(1))
        assert isinstance(estimate, Estimate)
        assert (estimate.value.shape, estimate.surrogate.dtype) == ((5,), dtype)
        assert estimate.surrogate.isfinite().all()
    assert sequences(batch.x, batch.mask).steps == 3
