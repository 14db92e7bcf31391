"""Classes that are never or hardly ever predicted."""

from pipeline.doctor.rule import Evidence, Rule, Verdict


def find(run: Evidence) -> Verdict | None:
    """Return the verdict on the largest missed class; `doctor.evidence` has the thresholds."""
    missed = run.missed_classes
    if missed is None or run.has_few_rows:
        return None
    largest = missed.classes[0]
    count = len(missed.classes) - 1
    further_classes = ""
    if count:
        further_classes = f", and misses {count} more {'class' if count == 1 else 'classes'}"
    # A network that predicts one class for all rows has learned nothing that a threshold divides.
    is_divided = run.findings.task == "binary" and not missed.is_one_for_all
    finds_threshold = is_divided and run.findings.rows.get("validation")
    return Verdict(
        evidence=f"the model found {missed.hits[largest] or 'none'} of the "
        f"{missed.support[largest]} {run.findings.classes[largest]!r} rows in the test set"
        f"{further_classes}",
        numbers={
            "classes": len(missed.classes),
            "rows": missed.support[[*missed.classes]].sum(),
        },
        cures=(
            "loss.class_weights=balanced" if missed.rare else "",
            "metrics.threshold=best_f1" if finds_threshold else "",
            run.more_epochs(3),
        ),
    )


RULE = Rule(
    rank=100,
    find=find,
    needs=("test",),
    shows_little_learning=True,
    is_on_learning=True,
    is_on_other_rows=True,
    hides=("no_better_than_naive", "no_better_than_linear", "noisy_metrics"),
    glossary="a class is (almost) never predicted, or nearly all rows get the same class",
    chinese="类别坍缩",
    page="""\
A rare class is (almost) never predicted, or nearly all rows get the same class. In a binary task
`metrics.threshold=best_f1` is offered, unless all rows get one class: then no threshold helps.

    pipeline train model=cnn1d data=table data.path=rare_four.csv 'model.channels=[8]' \\
      model.kernel_size=3 optimizer=sgd optimizer.momentum=0.0 optimizer.lr=0.01 scheduler=none \\
      keep=last trainer.max_epochs=8

> doctor  class collapse: the model found none of the 28 'kind 3' rows in the test set, and \
misses 2 more classes; try loss.class_weights=balanced or trainer.max_epochs=24

With `loss.class_weights=balanced optimizer.lr=0.1 trainer.max_epochs=20`: `healthy`.
""",
)
