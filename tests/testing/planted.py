"""Wrong on purpose: every estimator that the judge has to FAIL, with the checks that name its mistake."""

from tests.testing.planted_contract import CONTRACT_BUGS
from tests.testing.planted_objectives import OBJECTIVE_BUGS
from tests.testing.planted_path import PATH_BUGS
from tests.testing.planted_score import SCORE_BUGS
from tests.testing.planted_steps import STEP_BUGS

PLANTED = {**SCORE_BUGS, **PATH_BUGS, **OBJECTIVE_BUGS, **CONTRACT_BUGS, **STEP_BUGS}
