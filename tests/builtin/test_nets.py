"""The shapes and formulas that the reference parts share."""

import pytest
import torch
from torch import nn

from vbench.builtin.nets import LSTM, Tanh
from vbench.builtin.priors.gaussian_mixture import GaussianMixturePrior
from vbench.builtin.priors.standard_normal import StandardNormalPrior
from vbench.families import DiagonalNormal
from vbench.types import Incompatible, Space


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 4e-16), (torch.float32, 2e-7)])
def test_tanh_is_tanh(dtype, close):
    x = torch.cat([torch.linspace(-12, 12, 4001, dtype=torch.float64), torch.tensor([-1e3, 1e3])])
    assert (Tanh()(x.to(dtype)) - x.to(dtype).double().tanh()).abs().max() <= close
    free = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(Tanh()(free).sum(), free)
    torch.testing.assert_close(slope, 1 - x.tanh().square(), rtol=0, atol=4e-15)


@pytest.mark.parametrize("event", [(), (3,), (2, 3)])
@pytest.mark.parametrize("masked", [False, True])
def test_the_standard_normal_is_the_normal_of_its_parameters(event, masked):
    density = StandardNormalPrior(Space(event)).double()(None, None)
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(5, 4, *event, generator=generator, dtype=torch.float64).requires_grad_()
    mask = (z > 0).detach()[0] if masked else None
    values = [family.log_prob(z, mask) for family in (density, DiagonalNormal(density.loc, density.scale))]
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*(torch.autograd.grad(value.sum(), z)[0] for value in values))
    assert values[0].shape == (5, 4)


def test_the_recurrent_net_is_an_lstm():
    own, torch_own = LSTM(4, 3).double(), nn.LSTMCell(4, 3).double()
    with torch.no_grad():
        weight, bias = own.gates.weight.chunk(4), own.gates.bias.chunk(4)
        # torch orders the gates: in, forget, cell, out
        order = (0, 1, 3, 2)
        torch_own.weight_ih.copy_(torch.cat([weight[i][:, :4] for i in order]))
        torch_own.weight_hh.copy_(torch.cat([weight[i][:, 4:] for i in order]))
        torch_own.bias_ih.copy_(torch.cat([bias[i] for i in order]))
        torch_own.bias_hh.zero_()
    x, output, memory = torch.randn(5, 10, generator=torch.Generator().manual_seed(2)).double().split((4, 3, 3), -1)
    for mine, theirs in zip(own((output, memory), x), torch_own(x, (output, memory)), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert own.start(2, 5)[0].shape == (2, 5, 3)


@pytest.mark.parametrize("event", [(1, 3), (2, 3)])
def test_a_mixture_of_latents_that_are_steps_says_no(event):
    with pytest.raises(Incompatible, match=r"of latents \[D\], not \["):
        GaussianMixturePrior(Space(event))
