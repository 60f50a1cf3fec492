"""What asks the likelihood for E[x | z] is refused beside these decoders when a grid is planned, not when it runs."""

from __future__ import annotations

import pytest

from vbench.planning import make_plan

pytest.importorskip("vbench_divergence")
GRID = {
    "datasets": ["digits"],
    "encoders": [{"gaussian": {"latent": 2, "hidden": [4]}}],
    "priors": ["standard-normal"],
    "estimators": ["reparam", "wae-mmd", "wae-gan", "mmd-net"],
}


def actions(decoder: dict, tmp_path) -> dict[str, tuple[str, str]]:
    plan = make_plan(GRID | {"decoders": [decoder]}, results=tmp_path)
    return {planned.cell.estimator.name: (planned.action, planned.reason) for planned in plan.cells}


@pytest.mark.parametrize("decoder", ["pixelcnn", "pixelvae"])
def test_what_needs_a_mean_is_skipped_with_its_reason(decoder, tmp_path) -> None:
    found = actions({decoder: {"channels": 2, "layers": 1}}, tmp_path)
    assert found.pop("reparam")[0] == "run"
    for action, reason in found.values():
        assert action == "skip"
        assert "needs mean, which is not offered" in reason


def test_beside_a_decoder_of_independent_pixels_all_run(tmp_path) -> None:
    assert {action for action, _ in actions({"bernoulli": {"hidden": [4]}}, tmp_path).values()} == {"run"}
