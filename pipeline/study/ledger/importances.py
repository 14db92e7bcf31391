"""How much each parameter has to do with the best trials, by PED-ANOVA."""

import warnings

from optuna import Study
from optuna.trial import TrialState

FEWEST_TRIALS = 4
"""Complete trials before the best of them are any fewer than all."""


def importances(study: Study) -> dict[str, float]:
    """Return shares that sum to 1, the largest first; empty where there is too little to tell.

    PED-ANOVA also judges parameters that only some trials have, which others leave out.
    Under two objectives the best trials are those on and near the Pareto front.
    """
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances  # seconds

    if len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) < FEWEST_TRIALS:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shares = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    return dict(sorted(shares.items(), key=lambda item: -item[1]))
