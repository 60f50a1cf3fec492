import pytest
import torch

from vbench import ELBO, Batch, Rng, build, gradient_moments

pytest.importorskip("vbench_antithetic", reason="pip install ./plugins/vbench-antithetic")


def cell(estimator):
    return build(
        dataset="linear-gaussian",
        encoder="gaussian[latent=2, hidden=[]]",
        decoder="linear-gaussian",
        prior="standard-normal",
        estimator=estimator,
    )


def batch_of(built):
    return Batch(built.data.train[:7].float(), torch.arange(7))


def test_mirrored_noise_cancels_in_the_mean():
    built = cell("antithetic[k=4]")
    estimate = built.estimator(built.model, batch_of(built), Rng(3))
    assert estimate.surrogate.shape == (7,)
    assert estimate.value.isfinite().all()


def test_its_gradient_is_that_of_reparam_with_less_noise():
    ours, plain = cell("antithetic[k=2]"), cell("reparam[k=2]")
    batch = batch_of(ours)
    mirrored = gradient_moments(ours.model, ours.estimator, batch, draws=2000, key=0)
    independent = gradient_moments(plain.model, plain.estimator, batch, draws=2000, key=1)
    assert mirrored.mean_square["decoder"] == pytest.approx(independent.mean_square["decoder"], rel=0.05)
    assert mirrored.variance["decoder"] < independent.variance["decoder"]


def test_bound_is_the_elbo():
    assert cell("antithetic").estimator.bound == ELBO()
