"""Filters of the linear-Gaussian chain against the Kalman filter."""

import pytest
import torch
from vbench_sequence.filtering import ParticleFilter, WholeSequences, particle_filter
from vbench_sequence.linear_gaussian_chain import chain_of

from tests.toys import randomize
from vbench import ELBO, IWAE, Batch, Rng, build
from vbench.oracles import kalman

SCHEMES = ("multinomial", "stratified", "systematic")


def cell():
    """A model far from the data's, with its data, in float64."""
    built = build(
        dataset="linear-gaussian-chain[n=10,steps=6,dim=2]",
        encoder="filtering[latent=2,hidden=[]]",
        decoder="linear-gaussian-chain",
        prior="linear-gaussian-chain",
        estimator="fivo",
        seed=1,
    )
    model = randomize(built.model, 4, 0.25)
    with torch.no_grad():
        model.encoder.net[-1].bias[2:] += 0.8  # wider than the posterior: weights have moments
    data = built.data
    mask = torch.ones(2, 6, 2, dtype=torch.bool)
    mask[1, 4:] = False
    x = 0.8 * torch.randn(2, 6, 2, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    batch = Batch(torch.where(mask, x, 0), torch.arange(2), mask=mask)
    return model, batch, data


MODEL, BATCH, DATA = cell()
TRUTH = kalman.log_evidence(chain_of(MODEL), BATCH.x, BATCH.mask).detach()


def values(estimator, n, seed=1):
    """``[n, B]``; data draw apart, so copies of them are replicates."""
    wide = Batch(BATCH.x.repeat(n, 1, 1), torch.arange(2 * n), mask=BATCH.mask.repeat(n, 1, 1))
    with torch.no_grad():
        return estimator(MODEL, wide, Rng(seed)).value.reshape(n, 2)


@pytest.mark.parametrize("schedule", [pytest.param("never", marks=pytest.mark.slow), "adaptive", "always"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_estimate_is_the_evidence_on_average(schedule, scheme):
    ratio = (values(particle_filter(8, schedule, scheme, 0.5, "dropped"), 5000) - TRUTH).exp()
    error = (ratio.mean(0) - 1) / (ratio.std(0) / len(ratio) ** 0.5)
    assert error.abs().max() < 4.5
    assert (ratio.std(0) / len(ratio) ** 0.5).max() < 0.1  # and that says something


def test_a_twin_that_forgets_log_k_or_even_weights_is_found():
    class NoLogK(ParticleFilter):
        def _step_bound(self, log_w):
            return log_w.logsumexp(0)

    class NotReset(ParticleFilter):
        def _selected(self, state, log_w, past, rng):
            state, _, past = super()._selected(state, log_w, past, rng)
            return state, log_w, past

    for twin in (NoLogK, NotReset):
        ratio = (values(twin(8, "always", "systematic", 0.5, False), 5000) - TRUTH).exp()
        error = (ratio.mean(0) - 1) / (ratio.std(0) / len(ratio) ** 0.5)
        assert error.abs().max() > 6


def test_bounds_lie_below_the_evidence_in_their_order():
    found = {
        "elbo": values(WholeSequences(ELBO(), 4), 1500),
        "iwae": values(WholeSequences(IWAE(), 4), 1500),
        "adaptive": values(particle_filter(4, "adaptive", "multinomial", 0.5, "dropped"), 1500),
        "always": values(particle_filter(4, "always", "systematic", 0.5, "dropped"), 1500),
    }
    mean = {name: float(v.mean()) for name, v in found.items()}
    assert mean["elbo"] < mean["iwae"] < mean["adaptive"] < float(TRUTH.mean())
    assert mean["iwae"] < mean["always"] < float(TRUTH.mean())


def test_the_joint_density_is_that_of_the_chain():
    # log p(x) = log p(x, z) - log p(z | x) for any z, the posterior being normal with the smoother's moments
    chain = chain_of(MODEL)
    smooth = kalman.smoothing(chain, BATCH.x[:1], BATCH.mask[:1])
    steps = int(BATCH.mask[0, :, 0].sum())
    mean, cov = smooth.mean[0, :steps], torch.zeros(steps, 2, steps, 2, dtype=torch.float64)
    transition, drift = chain.transition, chain.transition_covariance
    filtered = kalman.filtering(chain, BATCH.x[:1], BATCH.mask[:1])
    gains = [
        torch.linalg.solve(
            transition @ filtered.covariance[0, t] @ transition.mT + drift, transition @ filtered.covariance[0, t]
        ).mT
        for t in range(steps - 1)
    ]
    for t in range(steps):
        cov[t, :, t] = smooth.covariance[0, t]
        block = smooth.covariance[0, t]
        for s in range(t - 1, -1, -1):
            block = block @ gains[s].mT  # Cov[z_t, z_s]
            cov[t, :, s], cov[s, :, t] = block, block.mT
    z = torch.zeros(1, 1, BATCH.x.shape[1], 2, dtype=torch.float64)
    z[0, 0, :steps] = torch.randn(steps, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    one = Batch(BATCH.x[:1], torch.arange(1), mask=BATCH.mask[:1])
    posterior = torch.distributions.MultivariateNormal(
        mean.detach().flatten(), cov.detach().reshape(2 * steps, 2 * steps)
    ).log_prob(z[0, 0, :steps].flatten())
    torch.testing.assert_close((MODEL.log_joint(one, z)[0, 0] - posterior).detach(), TRUTH[0], rtol=1e-9, atol=1e-9)


def test_the_data_know_their_evidence():
    x, mask = DATA.train.double(), DATA.masks["train"]
    lengths = mask[..., 0].sum(1)
    assert lengths.min() >= 3
    assert lengths.max() == 6
    assert (~mask).any()
    assert not x[~mask].any()
    own = DATA.log_evidence(x, mask)
    assert own.isfinite().all()
    # the model that made the data fits them better than another one
    assert own.mean() > kalman.log_evidence(chain_of(MODEL), x, mask).mean()
