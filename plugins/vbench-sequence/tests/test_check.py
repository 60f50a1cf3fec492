"""Everything that `vbench check` asks of the components; data that need files are asked where they are read."""

import pytest

from vbench.testing import parametrize_with_checks

ESTIMATORS = [
    ("estimator", "fivo[k=3]"),
    ("estimator", "aesmc[k=3,scheme=multinomial,ancestors=score]"),
    ("estimator", "sequence-iwae[k=3]"),
]
PARTS = [
    *(("decoder", name) for name in ("vrnn", "linear-gaussian-chain", "stochastic-volatility")),
    *(("prior", name) for name in ("vrnn", "linear-gaussian-chain", "stochastic-volatility")),
    ("dataset", "linear-gaussian-chain"),
]


@parametrize_with_checks([*ESTIMATORS, *PARTS])
def test_check(check) -> None:
    check()


@pytest.mark.slow
@parametrize_with_checks(
    [
        *(("encoder", name) for name in ("filtering", "smoothing")),
        *(("estimator", name) for name in ("fivo", "aesmc", "vsmc", "sequence-elbo", "sequence-iwae")),
    ]
)
def test_check_everything(check) -> None:
    check()
