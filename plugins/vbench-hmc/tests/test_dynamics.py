"""Volume, reversibility, and what the encoders have in common where they meet."""

import pytest
import torch
from vbench_hmc.hvae import HVAE
from vbench_hmc.hvi import HVI
from vbench_hmc.l2hmc_kernel import L2HMCKernel
from vbench_hmc.langevin import Langevin

from vbench import Rng
from vbench.dynamics import field, leapfrog
from vbench.testing import models

BATCH = models.batch()
MIXING = torch.tensor([[1.2, -0.4, 0.3], [0.5, 0.9, -0.7], [0.2, 0.1, 1.1]], dtype=torch.float64)


def log_density(z):
    """Not Gaussian, not symmetric."""
    return -((z @ MIXING[: z.shape[-1], : z.shape[-1]]).square() + (z - 0.3).exp()).sum(-1)


AT = field(log_density)


def start(size=3):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(2, size, generator=generator, dtype=torch.float64)


def log_determinant(move, both):
    """``move`` maps (z, v), each ``[1, 1, D]``, to such a pair."""

    def flat(both):
        return torch.cat([part.flatten() for part in move(*both[:, None, None])])

    jacobian = torch.autograd.functional.jacobian(flat, both).flatten(1)
    return torch.linalg.slogdet(jacobian)[1]


@pytest.mark.parametrize("mass", [1.0, torch.tensor([0.5, 2.0, 1.3], dtype=torch.float64)])
def test_leapfrog_keeps_volume_and_runs_backwards(mass):
    step = torch.tensor([0.3, 0.1, 0.2], dtype=torch.float64)

    def move(z, v):
        point, v = leapfrog(AT, AT(z), v, step, 4, mass)
        return point.z, v

    both = start()
    assert abs(log_determinant(move, both)) < 1e-10
    z, v = move(*both[:, None, None])
    back, u = move(z, -v)
    assert torch.allclose(back.flatten(), both[0])
    assert torch.allclose(-u.flatten(), both[1])
    assert (z.flatten() - both[0]).norm() > 0.1


def test_a_step_that_does_not_keep_volume_is_seen():
    assert abs(log_determinant(lambda z, v: (z + 0.3 * v, v + 0.3 * AT(z).slope), start())) > 0.01


def test_the_field_is_slope_and_value():
    z = start()[:, None].requires_grad_()
    point = AT(z)
    (slope,) = torch.autograd.grad(log_density(z).sum(), z)
    assert torch.allclose(point.slope, slope)
    assert torch.equal(point.log_density, log_density(z))
    assert torch.autograd.gradcheck(lambda z: tuple(AT(z)[1:]), (z,))
    with torch.no_grad():
        assert not AT(z).slope.requires_grad
        assert torch.allclose(AT(z).slope, slope)


@pytest.mark.parametrize("tempering", ["none", "fixed", "free"])
def test_cooling_changes_volume_as_claimed(tempering):
    encoder = HVAE(models.X, latent=3, hidden=[4], leapfrog=4, tempering=tempering).double()
    if encoder.raw_cooling is not None:
        torch.nn.init.normal_(encoder.raw_cooling, generator=torch.Generator().manual_seed(5))
    coolings = encoder.coolings().detach()

    def move(z, v):
        point = AT(z)
        for cooling in coolings:
            point, v = leapfrog(AT, point, v, torch.tensor(0.2, dtype=torch.float64), 1)
            v = cooling * v
        return point.z, v

    claimed = 3 * coolings.log().sum()
    assert abs(log_determinant(move, start()) - claimed) < 1e-10
    assert (claimed.abs() > 0.1) == (tempering != "none")
    assert (coolings <= 1).all()


def test_a_langevin_step_is_one_leapfrog_step(around):
    """The same weights from the same noise, the reverse model and the mass carried over."""
    hvi = around(HVI, updates=2, leapfrog=1, step=0.5, reverse_hidden=3)
    langevin = around(Langevin, steps=2, step=0.5, reverse_hidden=3)
    one, other = hvi.encoder, langevin.encoder
    other.initial, other.reverse = one.initial, one.reverse
    with torch.no_grad():
        other.log_step.copy_(one.log_step[:, None] - 0.5 * one.log_mass)
    ours = hvi.posterior(BATCH).draw(Rng(3), 50)
    # r tells the momentum after the step, the way back its negative: mirror the mean
    for net in one.reverse:
        with torch.no_grad():
            net.output.weight[:1] *= -1
            net.output.bias[:1] *= -1
    theirs = langevin.posterior(BATCH).draw(Rng(3), 50)
    assert torch.allclose(ours.z, theirs.z)
    assert torch.allclose(ours.log_q, theirs.log_q)


def test_without_tempering_hvae_is_hvi_with_an_idle_reverse_model(around):
    hvae = around(HVAE, leapfrog=3, step=0.3, tempering="none")
    hvi = around(HVI, leapfrog=3, reverse_hidden=3)
    hvi.encoder.initial = hvae.encoder.initial
    with torch.no_grad():
        hvi.encoder.log_mass.zero_()
        hvi.encoder.log_step.copy_((hvae.encoder.max_step * hvae.encoder.raw_step.sigmoid()).log())
        for parameter in hvi.encoder.reverse[0].output.parameters():
            parameter.zero_()
    ours, theirs = (model.posterior(BATCH).draw(Rng(3), 50) for model in (hvae, hvi))
    assert torch.allclose(ours.z, theirs.z)
    assert torch.allclose(ours.log_q, theirs.log_q)


def kernel(size=3, leapfrog=3, wild=0.5):
    torch.manual_seed(1)
    made = L2HMCKernel(size, leapfrog, 0.3, 6, 1.0).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(wild * torch.randn_like(parameter))
    return made


@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_l2hmc_knows_its_jacobian_and_its_inverse(ahead, size):
    made, both = kernel(size), start(size)
    forwards = torch.tensor([[ahead]])

    def move(z, v):
        proposal = made.propose(AT, AT(z), v, forwards)
        return proposal.point.z, proposal.v

    proposal = made.propose(AT, AT(both[0][None, None]), both[1][None, None], forwards)
    claimed = proposal.log_ratio - (
        log_density(proposal.point.z) - 0.5 * proposal.v.square().sum() - log_density(both[0]) + 0.5 * both[1] @ both[1]
    )
    assert abs(log_determinant(move, both) - claimed) < 1e-9
    assert abs(claimed) > 1e-3
    back = made.propose(AT, proposal.point, proposal.v, ~forwards)
    assert torch.allclose(back.point.z.flatten(), both[0])
    assert torch.allclose(back.v.flatten(), both[1])
    assert torch.allclose(back.log_ratio, -proposal.log_ratio)


@pytest.mark.parametrize("ahead", [True, False])
def test_l2hmc_starts_as_hmc(ahead):
    torch.manual_seed(1)
    made, both = L2HMCKernel(3, 4, 0.2, 6, 1.0).double(), start()
    step = made.log_step.exp()
    sign = 1 if ahead else -1
    point, v = leapfrog(AT, AT(both[0][None, None]), sign * both[1][None, None], step, 4)
    proposal = made.propose(AT, AT(both[0][None, None]), both[1][None, None], torch.tensor([[ahead]]))
    assert torch.allclose(proposal.point.z, point.z)
    assert torch.allclose(proposal.v, sign * v)
