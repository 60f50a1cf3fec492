"""Gradients at the end of a chain, against the chain's transition operator on a line; and invariance."""

import functools
import itertools

import pytest
import torch
from torch.func import vmap
from vbench_hmc import chain as chain_module
from vbench_hmc import hmc as hmc_module
from vbench_hmc import l2hmc_kernel as l2hmc_module
from vbench_hmc.hmc import HMC
from vbench_hmc.hmc_dlgm import HMCDLGM
from vbench_hmc.kernels import Move
from vbench_hmc.l2hmc import L2HMC
from vbench_hmc.l2hmc_kernel import L2HMCKernel

from vbench import Rng, frozen
from vbench.dynamics import field
from vbench.oracles import quadrature
from vbench.testing import models
from vbench.testing.models import expanded
from vbench.testing.replicates import by_part, row_gradients

BATCH = models.batch()
B = len(BATCH.x)
STEP = 1.6  # long enough for a good part to be refused
LINE = torch.linspace(-9, 9, 601, dtype=torch.float64)


def slopes_at(z):
    """Gradient of log p(x, z) in the parameters of decoder and prior at places ``z [S]``, ``[S, B, P]`` by part."""
    wide, data = expanded(models.line(), BATCH, len(z))
    value = wide.log_joint(data, z.repeat_interleave(B)[None, :, None])
    leaves = dict(wide.named_parameters())
    found = torch.autograd.grad(value.sum(), list(leaves.values()), allow_unused=True, materialize_grads=True)
    parts = by_part(dict(zip(leaves, found, strict=True)), lanes=True)
    return {part: parts[part].unflatten(0, (len(z), B)) for part in ("decoder", "prior")}


@functools.cache
def operators():
    """``[B, S, S]``: where one transition of one leapfrog step leads from each place of the line, by hand."""
    model = models.line()
    v = torch.linspace(-7.5, 7.5, 401, dtype=torch.float64)
    mass = torch.distributions.Normal(0.0, 1.0).log_prob(v).exp() * (v[1] - v[0])

    def ask(z):  # [S, B] -> log density and its slope
        z = z.detach().requires_grad_()
        value = model.log_joint(BATCH, z[..., None])
        return value.detach(), torch.autograd.grad(value.sum(), z)[0]

    z = LINE[:, None].expand(-1, B)
    before, slope = ask(z)
    half = v[:, None, None] + STEP / 2 * slope  # [V, S, B]
    new = z + STEP * half
    after, new_slope = (t.unflatten(0, new.shape[:2]) for t in ask(new.flatten(0, 1)))
    end = half + STEP / 2 * new_slope
    accept = (after - before - 0.5 * end.square() + 0.5 * v[:, None, None].square()).clamp(max=0).exp()
    weight = mass[:, None, None] * accept
    place = ((new - LINE[0]) / (LINE[1] - LINE[0])).clamp(0, len(LINE) - 1.001)
    left, rest = place.floor().long(), place - place.floor()
    found = torch.zeros(B, len(LINE), len(LINE), dtype=torch.float64)
    rows = torch.arange(len(LINE)).expand(len(v), -1)
    for b in range(B):
        for shift, share in ((0, 1 - rest), (1, rest)):
            found[b].index_put_((rows, left[..., b] + shift), (weight * share)[..., b], accumulate=True)
        found[b].diagonal().add_(1 - weight[..., b].sum(0))
    return found


@functools.cache
def expected(steps):
    """Exact gradient of decoder and prior after ``steps`` transitions from q, ``[B, P]`` by part."""
    q = models.line().posterior(BATCH)
    mass = (q.log_prob(LINE[:, None, None].expand(-1, B, 1)).exp() * (LINE[1] - LINE[0])).detach()  # [S, B]
    for _ in range(steps):
        mass = torch.einsum("bst,sb->tb", operators(), mass)
    return {part: torch.einsum("sb,sbp->bp", mass, slope) for part, slope in slopes_at(LINE).items()}


@functools.cache
def evidence():
    """Exact gradient of log p(x), ``[B, P]`` by part."""
    log_joint = models.line().log_joint(BATCH, LINE[:, None, None].expand(-1, B, 1)).detach()
    return {part: torch.einsum("sb,sbp->bp", log_joint.softmax(0), s) for part, s in slopes_at(LINE).items()}


def elbo_gradient():
    """Exact gradient of each datum's ELBO for the encoder, ``[B, P]``."""
    wide, data = expanded(models.line(), BATCH, 1)
    value = quadrature.bound_value(wide, data, HMCDLGM.bound, 1, 40)
    leaves = dict(wide.named_parameters())
    found = torch.autograd.grad(value.sum(), list(leaves.values()), allow_unused=True, materialize_grads=True)
    return by_part(dict(zip(leaves, found, strict=True)), lanes=True)["encoder"]


def estimator(steps=1, **parameters):
    return HMCDLGM(steps=steps, leapfrog=1, step=STEP, **parameters).double()


def worst(made, targets, times=4000):
    """Largest deviation from the exact gradients in standard errors, by part."""
    parts, _ = row_gradients(models.line(), made, BATCH, times, 5)
    found = {}
    for part, target in targets.items():
        samples = parts[part].unflatten(0, (times, B))
        error = samples.std(0) / times**0.5
        found[part] = float(((samples.mean(0) - target).abs() / error.clamp(min=1e-12)).max())
    return found


@pytest.mark.parametrize("steps", [1, 3])
def test_each_part_has_the_gradient_that_is_claimed(steps):
    found = worst(estimator(steps), expected(steps) | {"encoder": elbo_gradient()})
    assert max(found.values()) < 5


def test_two_chains_are_averaged():
    found = worst(estimator(2, k=2), expected(2) | {"encoder": elbo_gradient()}, 2000)
    assert max(found.values()) < 5


def test_the_bias_falls_with_the_length_of_the_chain():
    truth, lengths = evidence(), (0, 1, 2, 4, 8, 16, 32, 64)
    for part in truth:
        bias = [float((expected(n)[part] - truth[part]).norm() / truth[part].norm()) for n in lengths]
        assert all(later < 0.9 * sooner for sooner, later in itertools.pairwise(bias)), bias
        assert bias[0] > 0.1
        assert bias[-1] < 0.02 * bias[0], bias


def test_the_operator_leaves_the_posterior_alone():
    log_joint = models.line().log_joint(BATCH, LINE[:, None, None].expand(-1, B, 1)).detach()
    mass = log_joint.softmax(0)
    moved = torch.einsum("bst,sb->tb", operators(), mass)
    powers = torch.stack([LINE**n for n in range(5)])
    assert (powers @ (moved - mass)).abs().max() < 2e-3 * (powers @ mass).abs().max()


def test_acceptance_is_told():
    q = models.line().posterior(BATCH)
    mass = (q.log_prob(LINE[:, None, None].expand(-1, B, 1)).exp() * (LINE[1] - LINE[0])).detach()
    made = estimator(k=4000)(models.line(), BATCH, Rng(1))
    told = made.info["acceptance"]
    assert told.shape == (B,)
    # what stays in place is refused, but for what lands in the own cell
    stay = torch.einsum("bss,sb->b", operators(), mass)
    assert (told - (1 - stay)).abs().max() < 0.03
    assert (told < 0.97).all()


def accept_all(start, proposal, rng):
    return Move(type(start)(*(part.detach() for part in proposal.point)), proposal, torch.ones_like(start.log_density))


def test_twin_without_the_accept_step(monkeypatch):
    monkeypatch.setattr(hmc_module, "chosen", accept_all)
    assert max(worst(estimator(3), expected(3)).values()) > 8


def test_twin_that_learns_where_the_chain_began():
    assert worst(estimator(1), expected(0))["decoder"] > 8


def test_twin_that_lets_the_bound_reach_the_decoder(monkeypatch):
    monkeypatch.setattr(chain_module, "frozen", lambda model: model)
    found = worst(estimator(1), expected(1) | {"encoder": elbo_gradient()})
    assert found["decoder"] > 8
    assert found["prior"] > 8


def test_twin_whose_path_goes_through_the_chain(monkeypatch):
    """An end that keeps its graph sends the decoder's objective into the encoder."""
    real = hmc_module.chosen

    def live(start, proposal, rng):
        move = real(start, proposal, rng)
        return move._replace(point=move.point._replace(z=proposal.point.z))

    monkeypatch.setattr(hmc_module, "chosen", live)
    monkeypatch.setattr(torch.Tensor, "detach", lambda self: self)
    found = worst(estimator(1), {"encoder": elbo_gradient()}, 2000)
    assert found["encoder"] > 8


def test_the_step_size_follows_the_acceptance():
    for wanted, sign in ((0.1, 1), (0.99, -1)):
        made = estimator(acceptance=wanted)
        surrogate = made(models.line(), BATCH, Rng(1)).surrogate.mean()
        (gradient,) = torch.autograd.grad(surrogate, made.kernel.log_step)
        assert gradient * sign > 0


def mixture(z):
    """Two correlated normals of unequal weight, ``[..., 2] -> [...]``."""
    centres = torch.tensor([[-1.2, 0.5], [1.0, -0.4]], dtype=torch.float64)
    roots = torch.tensor([[[1.5, 0.0], [0.8, 1.1]], [[0.9, 0.3], [0.0, 1.8]]], dtype=torch.float64)
    weights = torch.tensor([0.3, 0.7], dtype=torch.float64)
    terms = [
        w.log() + torch.linalg.slogdet(r)[1] - 0.5 * ((z - c) @ r).square().sum(-1)
        for w, c, r in zip(weights, centres, roots, strict=True)
    ]
    return torch.stack(terms).logsumexp(0)


def sample_mixture(n):
    """Draws by rejection from a wide normal: nothing of the density is inverted by hand."""
    generator = torch.Generator().manual_seed(4)
    z = 2.5 * torch.randn(40 * n, 2, generator=generator, dtype=torch.float64)
    log_ratio = mixture(z) + 0.5 * (z / 2.5).square().sum(-1)
    kept = torch.rand(len(z), generator=generator, dtype=torch.float64).log() < log_ratio - log_ratio.max()
    assert kept.sum() > n
    return z[kept][:n]


def wild(size, leapfrog=2):
    torch.manual_seed(3)
    made = L2HMCKernel(size, leapfrog, 0.5, 6, 1.0).double()
    with torch.no_grad():
        for net in (made.of_v, made.of_z):
            net.output.weight.normal_(0, 0.4)
            net.output.bias.normal_(0, 0.4)
    return made


def drift(kernel, n=20000):
    """How far one transition moves means of the stationary law, in standard errors of the paired differences."""
    at = field(mixture)
    z = sample_mixture(n)[:, None]
    with torch.no_grad():
        move = kernel(at, at(z), Rng(6))
    changes = []
    for h in (
        *(lambda z, i=i: z[..., i] for i in range(2)),
        *(lambda z, i=i: z[..., i].square() for i in range(2)),
        lambda z: z[..., 0] * z[..., 1],
        lambda z: (2 * z[..., 0] + z[..., 1]).sin(),
        mixture,
    ):
        change = (h(move.point.z) - h(z)).flatten()
        changes.append(float(change.mean().abs() / (change.std() / n**0.5)))
    return max(changes), float(move.acceptance.mean())


def test_l2hmc_leaves_a_density_alone():
    moved, acceptance = drift(wild(2))
    assert moved < 5
    assert 0.05 < acceptance < 0.95


def test_hmc_leaves_a_density_alone():
    moved, acceptance = drift(HMC(3, 0.9, 0.65).double())
    assert moved < 5
    assert 0.05 < acceptance < 0.97


def test_twin_without_the_jacobian_moves_it(monkeypatch):
    real = l2hmc_module._coupled
    monkeypatch.setattr(l2hmc_module, "_coupled", lambda *a: (real(*a)[0], torch.zeros_like(a[0])))
    assert drift(wild(2))[0] > 8


def test_twin_that_runs_one_way_only_moves_it():
    class OneWay(Rng):
        def uniform(self, *shape, dtype=None):
            u = super().uniform(*shape, dtype=dtype)
            return u * 0.5 if self._count == 2 else u

    at, z = field(mixture), sample_mixture(20000)[:, None]
    with torch.no_grad():
        move = wild(2)(at, at(z), OneWay(6))
    change = (move.point.z - z).flatten(0, 1)
    assert (change.mean(0).abs() / (change.std(0) / len(z) ** 0.5)).max() > 8


@torch.no_grad()
def test_l2hmc_leaves_a_density_on_a_line_alone_without_sampling_error():
    kernel = wild(1)

    def log_density(z):
        return torch.logaddexp(-0.5 * (z + 1).square(), 0.4 - 2 * (z - 1.5).square()).sum(-1)

    at = field(log_density)
    line = torch.linspace(-8, 8, 401, dtype=torch.float64)
    z, v = (t.reshape(-1, 1, 1) for t in torch.meshgrid(line, line, indexing="ij"))
    mass = (log_density(z) - 0.5 * v.square().sum(-1)).exp()
    mass = mass / mass.sum()
    totals = torch.zeros(4, dtype=torch.float64)
    bare = torch.zeros(4, dtype=torch.float64)
    hs = (lambda z: z, torch.square, torch.sin, lambda z: (3 * z).cos())
    for ahead in (True, False):
        point = at(z)
        proposal = kernel.propose(at, point, v, torch.full(z.shape[:2], ahead))
        ends = log_density(proposal.point.z) - log_density(z) - 0.5 * (proposal.v.square() - v.square()).sum(-1)
        for sums, log_ratio in ((totals, proposal.log_ratio), (bare, ends)):
            accept = log_ratio.clamp(max=0).exp()
            sums += torch.stack([(mass * accept * (h(proposal.point.z) - h(z))[..., 0]).sum() / 2 for h in hs])
    assert totals.abs().max() < 2e-4
    assert bare.abs().max() > 5e-3  # without the Jacobian


def test_l2hmc_estimator_is_hmc_dlgm_before_it_learns():
    """Half of the untrained chains run with the mirrored momentum: the same law, so the same exact gradient."""
    made = L2HMC(models.line().encoder.z, steps=2, leapfrog=1, step=STEP, hidden=4).double()
    found = worst(made, expected(2) | {"encoder": elbo_gradient()})
    assert max(found.values()) < 5


def test_l2hmc_learns_to_move():
    torch.manual_seed(0)
    variances = torch.tensor([100.0, 0.01], dtype=torch.float64)
    at = field(lambda z: -0.5 * (z.square() / variances).sum(-1))
    kernel = L2HMCKernel(2, 3, 0.1, 10, 1.0).double()
    optimizer = torch.optim.Adam(kernel.parameters(), 1e-2)
    point = at(torch.randn(100, 1, 2, dtype=torch.float64) * variances.sqrt())
    gains = []
    for key in range(60):
        move = kernel(at, point, Rng(key))
        optimizer.zero_grad()
        (-kernel.objective(point, move).mean()).backward()
        optimizer.step()
        distance = (move.proposal.point.z - point.z).square().sum(-1)
        gains.append(float((distance * move.acceptance).mean().detach()))
        point = move.point
    assert sum(gains[-20:]) > 2 * sum(gains[:20])


def test_under_vmap_and_frozen():
    made, model = estimator(2), frozen(models.line())

    def value(key):
        return made(model, BATCH, Rng(key)).surrogate

    keys = torch.arange(3)
    together = vmap(value, randomness="error")(keys)
    assert torch.allclose(together, torch.stack([value(int(key)) for key in keys]))
