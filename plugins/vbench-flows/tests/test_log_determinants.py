"""Steps and their log-determinants against autograd's Jacobian, both ways, and the bare formulas' identities."""

import math

import pytest
import torch
from flow_cases import ENCODERS, PRIORS, AtTheImage, FlippedSign, data, encoder, log_det, prior
from vbench_flows.householder import Householder
from vbench_flows.iaf import InverseAutoregressive
from vbench_flows.planar import Planar
from vbench_flows.radial import Radial
from vbench_flows.roots import tanh_root
from vbench_flows.sylvester import flipped, orthonormal, reflected
from vbench_flows.through import Affine

from vbench import Space

MOVES = [name for name in ENCODERS if name != "householder"]


def noise(latent, size=3, k=7, scale=2.0):
    generator = torch.Generator().manual_seed(3)
    return scale * torch.randn(k, size, latent, generator=generator, dtype=torch.float64)


def worst(step, z):
    """The largest error of both log-determinants of a step, and of the way there and back."""
    image, pushed = step.push(z)
    found, pulled = step.pull(image)
    truth = log_det(lambda v: step.push(v)[0], z)
    return max(float((a - b).detach().abs().max()) for a, b in ((pushed, truth), (pulled, truth), (found, z)))


@pytest.mark.parametrize("latent", [1, 2, 3])
@pytest.mark.parametrize("name", ENCODERS)
def test_steps_agree_with_autograd_and_can_be_taken_back(name, latent):
    posterior = encoder(name, latent)(data(), None)
    assert all(worst(step, noise(latent)) < 1e-8 for step in posterior.steps)


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("size", [1, 3])
def test_steps_of_the_prior(name, size):
    density = prior(name, Space((size,)))(None, None)
    assert all(worst(step, noise(size)) < 1e-8 for step in density.flat.steps)


@pytest.mark.parametrize("wrong", [FlippedSign, AtTheImage])
@pytest.mark.parametrize("name", MOVES)
def test_a_wrong_log_determinant_is_seen(name, wrong):
    step = next(step for step in encoder(name, 3)(data(), None).steps if not isinstance(step, Affine))
    assert worst(wrong(step), noise(3)) > 1e-3


def test_a_planar_step_needs_its_constraint():
    u, w, b = torch.tensor([[1.5, -1.0]]), torch.tensor([[-2.0, 1.0]]), torch.tensor([0.2])
    u, w, b = u.double(), w.double(), b.double()
    assert float((u * w).sum()) < -1
    good = Planar.constrained(u, w, b)
    assert worst(good, noise(2, 1)) < 1e-8
    torch.testing.assert_close((good.u * w).sum(-1), good.rate - 1)
    bare = Planar(u, w, b, 1 + (u * w).sum(-1))
    folded = torch.tensor([[[0.0, 0.0]]]).double()
    assert not bare.push(folded)[1].isfinite()  # the logarithm of a negative slope


@pytest.mark.parametrize("rate", [1e-6, 0.05, 0.9, 1.0, 1.5, 10.0, 1000.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_roots_are_found_to_rounding(rate, dtype):
    s = torch.cat([torch.logspace(-12, 3, 301), torch.linspace(0, 1500, 3001)]).to(dtype)
    s, rate = torch.cat([s, -s]), torch.tensor(rate, dtype=dtype)
    t = tanh_root(s, rate)
    off = (t + (rate - 1) * t.tanh() - s).abs() / (1 + s.abs())
    assert off.max() < 4 * torch.finfo(dtype).eps


def test_roots_have_first_and_second_derivatives():
    s = torch.tensor([-1.3, 0.4, 5.0], dtype=torch.float64, requires_grad=True)
    rate = torch.tensor([0.2, 0.7, 3.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(tanh_root, (s, rate))
    assert torch.autograd.gradgradcheck(tanh_root, (s, rate))


def test_planar_step_without_u_is_the_identity():
    w, b = torch.randn(3, 2, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    z, log_q = Planar.constrained(torch.zeros_like(w), w, b).push(noise(2))
    torch.testing.assert_close(z, noise(2))
    torch.testing.assert_close(log_q, torch.zeros(7, 3, dtype=torch.float64), atol=1e-12, rtol=0)


def test_planar_constraint_is_the_source_s():
    """With u moved by log(e - 1) along w, the source's m(a) = -1 + log(1 + e^a) gives the same step."""
    u, w = torch.randn(3, 2, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)
    along = w / w.square().sum(-1, keepdim=True)
    moved = u + math.log(math.e - 1) * along
    inner = (moved * w).sum(-1, keepdim=True)
    expected = moved + (-1 + (1 + inner.exp()).log() - inner) * along
    torch.testing.assert_close(Planar.constrained(u, w, u[:, 0]).u, expected)


def test_radial_step_without_beta_is_the_identity():
    alpha = torch.tensor([0.3, -0.5, 1.0], dtype=torch.float64)
    z, log_q = Radial.constrained(noise(2)[0], alpha, alpha).push(noise(2))
    torch.testing.assert_close(z, noise(2))
    torch.testing.assert_close(log_q, torch.zeros(7, 3, dtype=torch.float64), atol=1e-12, rtol=0)


def test_an_open_gate_is_the_identity():
    def net(v):
        return torch.stack([torch.zeros_like(v[..., :2]), torch.full_like(v[..., :2], 60.0)], -1).flatten(-2)

    step = InverseAutoregressive(net, torch.zeros(3, 1, dtype=torch.float64))
    z, log_q = step.push(noise(2))
    torch.testing.assert_close(z, noise(2))
    torch.testing.assert_close(log_q, torch.zeros(7, 3, dtype=torch.float64), atol=1e-12, rtol=0)


def test_reflections_keep_lengths_and_volume():
    z, total = noise(3), 0
    for step in encoder("householder", 3)(data(), None).steps:
        image, one = step.push(z)
        assert not one.any()
        torch.testing.assert_close(image.norm(dim=-1), z.norm(dim=-1))
        total, z = total + log_det(lambda v, step=step: step.push(v)[0], z), image
    torch.testing.assert_close(total, torch.zeros_like(total), atol=1e-12, rtol=0)
    assert not torch.allclose(z, noise(3))


def test_a_reflection_that_stops_short_is_seen():
    class Short(Householder):
        def push(self, z):
            image, log_det = super().push(z)
            return z + 0.7 * (image - z), log_det

        pull = push

    assert worst(Short(torch.ones(3, 2, dtype=torch.float64)), noise(2)) > 1e-2


@pytest.mark.parametrize("make", ["orthonormal", "reflected", "flipped"])
def test_columns_are_orthonormal(make):
    q = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    down, up = {
        "orthonormal": lambda: orthonormal(q.mT),
        "reflected": lambda: reflected(q),
        "flipped": lambda: flipped(True),
    }[make]()
    v = noise(2 if make == "orthonormal" else 4)
    torch.testing.assert_close(down(up(v)), v)
    torch.testing.assert_close(up(v).norm(dim=-1), v.norm(dim=-1))
