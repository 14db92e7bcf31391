"""What a ledger is made of, chosen by the options of its study."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from optuna import Study

from pipeline.config.options import SweepOptions
from pipeline.study.ledger.comparing import Comparing
from pipeline.study.ledger.lost import Watch
from pipeline.study.ledger.objectives import Objective
from pipeline.study.ledger.points import Points
from pipeline.study.ledger.pruners import build_pruner, compares
from pipeline.study.ledger.samplers import Choosing
from pipeline.study.ledger.sampling import Sampling
from pipeline.study.ledger.taking import Budget
from pipeline.study.ledger.trial_rows import TrialRows


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """How one process takes part in a study.

    Args:
        budget: How many trials it is to have.
        rows: Reads them.
        sampling: Chooses their points.
        comparing: Decides whether they go on; `None` where nothing is compared.
        watch: Finds those that are lost.
    """

    budget: Budget
    rows: TrialRows
    sampling: Sampling
    comparing: Comparing | None
    watch: Watch

    @classmethod
    def of(
        cls,
        study: Study,
        space: Points,
        options: SweepOptions,
        objectives: Sequence[Objective],
        *,
        seed: int,
    ) -> Self:
        """Choose the parts for a study, and give it its pruner, which samplers look at too."""
        pruner = build_pruner(
            options.pruner, warmup=options.pruner_warmup, objectives=len(objectives)
        )
        study.pruner = pruner
        budget = Budget(
            n_trials=options.n_trials,
            points=space.points() if options.sampler == "grid" else None,
            max_retry=options.max_retry,
        )
        choosing = Choosing(
            sampler=options.sampler,
            seed=seed,
            conditional=any(one.off or one.when is not None for one in space.parameters),
            objectives=len(objectives),
        )
        rows = TrialRows(study, space, objectives, budget=budget, keep=options.keep_best)
        compared = compares(options.pruner, len(objectives))
        return cls(
            budget=budget,
            rows=rows,
            sampling=Sampling(study, space, choosing),
            comparing=Comparing(study, rows, pruner) if compared else None,
            watch=Watch(options.grace),
        )
