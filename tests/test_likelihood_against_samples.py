"""Likelihoods of the shipped study's own decoders: they sum to one, samples follow them, and wrong twins do not."""

import itertools
import runpy
from pathlib import Path

import pytest
import torch

from vbench import Bernoulli, Rng

EXTREMES = runpy.run_path(str(Path(__file__).parent.parent / "results" / "likelihood-against-samples" / "extremes.py"))
Noisy, Copies = EXTREMES["Noisy"], EXTREMES["Copies"]
IMAGES = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4)), dtype=torch.float64).reshape(16, 2, 2)


def noisy(size=(1, 16)):
    logits = torch.tensor([[2.0, -1.0], [0.5, -3.0]], dtype=torch.float64)
    return Noisy(Bernoulli(logits.expand(*size, 2, 2)), 0.4)


def copies(size=(1, 16)):
    kept = torch.tensor([[[1, 0], [0, 0]], [[1, 1], [0, 1]], [[1, 0], [0, 0]]], dtype=torch.float64)
    return Copies(torch.zeros(*size, 3, dtype=torch.float64), kept, 0.2)


def by_hand(name):
    """The probability of each image, written out pixel by pixel."""
    if name == "noisy":
        p = torch.tensor([[2.0, -1.0], [0.5, -3.0]], dtype=torch.float64).sigmoid()
        good = torch.stack([torch.where(x == 1, p, 1 - p).prod() for x in IMAGES])
        return 0.6 * good + 0.4 / 16
    kept = copies().kept
    each = [[torch.where(x == m, 0.8, 0.2).prod() for m in kept] for x in IMAGES]
    return torch.tensor(each, dtype=torch.float64).mean(1)


MADE = {"noisy": noisy, "copies": copies}


@pytest.mark.parametrize("name", MADE)
def test_densities_are_those_written_out_and_sum_to_one(name):
    p = MADE[name]().log_prob(IMAGES)[0].exp()
    torch.testing.assert_close(p, by_hand(name))
    assert float(p.sum()) == pytest.approx(1, abs=1e-12)
    wrong = MADE[name]()
    setattr(wrong, "share" if name == "noisy" else "flips", 0.3)
    assert not torch.allclose(wrong.log_prob(IMAGES)[0].exp(), by_hand(name), atol=0.01)


@pytest.mark.parametrize("name", MADE)
def test_what_is_masked_is_summed_out(name):
    mask = torch.ones(16, 2, 2, dtype=torch.float64)
    mask[:, 1, 1] = 0
    p = MADE[name]().log_prob(IMAGES, mask)[0].exp()
    torch.testing.assert_close(p[0::2], by_hand(name)[0::2] + by_hand(name)[1::2])


@pytest.mark.parametrize("name", MADE)
def test_samples_and_mean_follow_the_density(name):
    n = 20000
    likelihood = MADE[name]((1, n))
    x = likelihood.sample(Rng(3))[0]
    places = (x.flatten(1) @ torch.tensor([8.0, 4.0, 2.0, 1.0], dtype=x.dtype)).long()
    counts, p = torch.bincount(places, minlength=16), by_hand(name)

    def chi_square(p):
        return float(((counts - n * p).square() / (n * p)).sum())

    assert chi_square(p) < 37.7  # one in a thousand at 15 degrees of freedom
    assert chi_square(p.flip(0)) > 1000
    torch.testing.assert_close(likelihood.mean[0, 0], (p[:, None, None] * IMAGES).sum(0))
