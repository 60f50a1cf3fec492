"""Pyro's ReweightedWakeSleep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from annotated_types import Ge
from torch import Tensor

from vbench import IWAE, Estimator, Wake
from vbench_peers.extras import needs_extra

__all__ = ["pyro_rws"]


@needs_extra("pyro")
def pyro_rws(
    k: Annotated[int, Ge(2), "particles per datum"] = 2,
    minibatch: Annotated[bool, "call it once for all data, which Pyro says is not supported yet"] = False,
) -> Estimator:
    r"""Reweighted wake-sleep by Pyro's ``ReweightedWakeSleep``, its wake phases (``insomnia=1``).

    .. math:: \sum_k \tilde w_k \nabla \big(\log p(x, z_k) + \log q(z_k | x)\big), \qquad
       \tilde w_k = w_k / \textstyle\sum_j w_j

    Called once for each datum: Pyro's documentation says that minibatches are not supported yet, and its weights are
    those of all data together. ``minibatch: true`` shows what that does.

    Source: Bornschein & Bengio (2015), Reweighted Wake-Sleep, arXiv:1406.2751; Le, Kosiorek, Siddharth, Teh & Wood
    (2019), Revisiting Reweighted Wake-Sleep for Models with Stochastic Control Flow, arXiv:1805.10469.
    """
    import torch
    from pyro.infer import ReweightedWakeSleep

    from vbench_peers.pyro_call import SampledLoss

    class Wakes(SampledLoss):
        """Each datum apart, or all of them together."""

        target = Wake()

        def _slopes(self, z: Tensor, given: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
            if minibatch:
                return super()._slopes(z, given)
            data = range(z.shape[1])
            found: list[Any] = [
                super(Wakes, self)._slopes(z[:, b : b + 1], {name: t[:, b : b + 1] for name, t in given.items()})
                for b in data
            ]
            return sum(loss for loss, _ in found), {n: torch.cat([s[n] for _, s in found], 1) for n in given}

    loss = ReweightedWakeSleep(num_particles=k, vectorize_particles=True, max_plate_nesting=1)
    return Wakes(loss, IWAE(), k, pathwise=False)
