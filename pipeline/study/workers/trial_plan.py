"""Plans the run of a trial, or the test of its kept weights."""

from time import perf_counter
from typing import Any

from pipeline.base.errors import ChangedDataError
from pipeline.base.ranks import ALONE
from pipeline.config.check import check
from pipeline.config.plain import plain
from pipeline.config.values import as_tree
from pipeline.running.plan import Plan, RunContext, make_plan
from pipeline.study.messages import Job, TestJob, changed_data_line


def plan_trial(job: Job | TestJob, context: RunContext, **changes: Any) -> Plan:
    """Plan a run as its command would, but without printing or resuming.

    Raises:
        ChangedDataError: The data are not those of the job.
    """
    started_at = perf_counter()
    tree = as_tree(job.config)
    options = check(tree, trust=job.trust)
    options = options.model_copy(update={"verbose": 0, "resume": None, **changes})
    rank = None
    if isinstance(job, TestJob):  # several processes would not make it faster
        options = options.on_one_device()
        rank = ALONE
    plan = make_plan(options, plain(tree), started_at=started_at, context=context, rank=rank)
    data = plan.prepared.content_hash
    if job.data not in (None, data):
        raise ChangedDataError(changed_data_line(plan.config, job.data, data))
    return plan
