"""Each verdict is said of findings that show it and of nothing else; what is offered helps."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from doctor.sick_findings import (
    SGD,
    SICK,
    activity,
    clipped,
    exploding,
    leaked,
    moved,
    never,
    no_better,
    overfitted,
    poorly,
    vanishing,
    with_history,
    with_steps,
    with_tiny_vitals,
    with_vitals,
)
from helpers.sample_findings import (
    KINDS,
    TASKS,
    UNMEASURED,
    Kind,
    Task,
    config_of,
    made_findings,
    of_rows,
    scored_rows,
    vitals_of,
    with_test,
)

from pipeline.base.ends import End
from pipeline.base.findings import Clipping, ColumnImportances, Findings
from pipeline.base.markup import as_markdown
from pipeline.config.check import check
from pipeline.config.compose import compose
from pipeline.doctor.diagnosis import diagnose, load_rules
from pipeline.doctor.evidence import HIGHEST, HIGHEST_OF_OTHERS, Evidence
from pipeline.doctor.rule import Verdict


def names(findings: Findings) -> list[str]:
    return [verdict.name for verdict in diagnose(findings).verdicts]


def only_verdict(findings: Findings) -> Verdict:
    (verdict,) = diagnose(findings).verdicts
    return verdict


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", KINDS)
def test_findings_of_a_healthy_run_have_no_verdict(task: Task, kind: Kind) -> None:
    diagnosis = diagnose(made_findings(task=task, kind=kind))
    assert diagnosis.names == "healthy"
    assert diagnosis.lines() == ["doctor  healthy"]
    assert set(load_rules()) == set(SICK)


@pytest.mark.parametrize("name", SICK)
def test_each_fault_has_only_its_own_verdict(name: str) -> None:
    """Its cures are valid and change the settings of this run."""
    findings = SICK[name]()
    verdict = only_verdict(findings)  # it alone
    assert verdict.name == name
    assert verdict.evidence
    assert verdict.cures or verdict.advice
    model = str(Evidence(findings).setting("model._target_")).rpartition(".")[2].lower()
    data = "wine" if "wine" in str(Evidence(findings).setting("data._target_")) else "breast_cancer"
    for cure in verdict.cures:
        check(compose([f"model={model}", f"data={data}", cure]))  # the key and its value are known
        key, _, value = cure.partition("=")
        assert str(Evidence(findings).setting(key)) != value


def test_recurrent_network_gets_only_applicable_cures() -> None:
    made = poorly(made_findings(kind="series", config=config_of("model=rnn", *SGD), model="RNN"))
    verdict = only_verdict(with_tiny_vitals(made, 1e-6, 1e-6, 1.0))
    assert verdict.name == "vanishing_gradient"
    assert {"model.norm=layer", "model.norm=batch"} & set(verdict.cures) == {"model.norm=layer"}
    assert "layer1 (" in verdict.evidence


def test_cures_already_in_use_are_not_offered() -> None:
    words = ("data=mnist1d", "model=mlp", "model.norm=batch", "model.activation=relu", *SGD)
    verdict = only_verdict(replace(vanishing(), config=config_of(*words)))
    assert not {"model.norm=batch", "model.activation=relu"} & set(verdict.cures)
    own = {**config_of(*words), "model": {"_target_": "mine.Net", "norm": "none"}}
    verdict = only_verdict(replace(vanishing(), config=own))
    assert not any(cure.startswith("model.") for cure in verdict.cures)


def test_single_normalized_input_needs_no_gradient() -> None:
    """Batch norm makes the first layer independent of its scale."""
    words = ("data=mnist1d", "model=mlp", "model.hidden=[64,64]", *SGD)
    cases: list[tuple[str, Kind, int]] = [
        ("batch", "table", 1),
        ("none", "table", 0),
        ("batch", "series", 0),
    ]
    for norm, kind, undone in cases:
        config = config_of(*words, f"model.norm={norm}")
        made = replace(poorly(made_findings(config=config)), features=("x",), kind=kind)
        first = with_tiny_vitals(made, 1e-6, 1.0, 1.0)
        assert ("vanishing_gradient" in names(first)) != undone
        verdict = only_verdict(with_tiny_vitals(made, 1e-6, 1e-5, 1.0))
        assert verdict.evidence.startswith(f"layer{1 + undone} gets")
        assert "model.skip=true" in verdict.cures


def test_skip_needs_two_layers_of_equal_width() -> None:
    words = ("data=mnist1d", "model=mlp", "model.norm=batch", "model.hidden=[64,128]", *SGD)
    sick = replace(vanishing(), config=config_of(*words))
    assert "model.skip=true" not in only_verdict(sick).cures


def test_two_verdicts_are_shown_and_the_rest_named() -> None:
    layers = (*activity(dead=0.9), *activity("Tanh", saturated=0.9))
    several = replace(overfitted(), clipping=never().clipping, history=never().history)
    diagnosis = diagnose(replace(several, activity=layers))
    titles = [verdict.name.replace("_", " ") for verdict in diagnosis.verdicts]
    lines = diagnosis.lines()
    assert all("\n" not in line for line in lines)
    assert [line.partition(":")[0] for line in lines] == [f"doctor  {one}" for one in titles[:2]]
    assert lines[1].endswith(f" (also {', '.join(titles[2:])}: see doctor.md)")
    page = as_markdown(diagnosis.section())
    assert all(f"## {title.capitalize()}\n" in page for title in titles)
    told = json.loads(json.dumps(diagnosis.to_dict(), allow_nan=False))
    assert told["names"] == diagnosis.names
    assert [one["name"] for one in told["verdicts"]] == diagnosis.names.split(", ")


NOTHING: dict[str, Any] = {**UNMEASURED, "rows": {}, "shares": (), "config": {}}
NO_NUMBERS = {"epochs": np.array([1]), "first": np.full(3, np.nan)}
NO_NUMBERS |= dict.fromkeys(("gradients", "updates"), np.full((1, 3), np.nan))
MISSING = [
    *({key: NOTHING[key]} for key in ("vitals", "activity", "training", "history", "importances")),
    {"test": None, "intervals": {}, "metrics": {}, "baselines": ()},
    {"rows": {"train": 5}, "shares": ()},
    {"kept": None, "epochs": 0, "planned": 1, "steps": 0},
    {"end": End.DIVERGED},
]


@pytest.mark.parametrize("name", [*SICK, "healthy"])
def test_missing_evidence_is_no_error(name: str) -> None:
    findings = made_findings() if name == "healthy" else SICK[name]()
    overflowed = replace(with_vitals(findings, **NO_NUMBERS), end=End.DIVERGED)
    for incomplete in (*(replace(findings, **missing) for missing in MISSING), overflowed):
        diagnosis = diagnose(incomplete)
        assert len(diagnosis.lines()) <= 2
        json.dumps(diagnosis.to_dict(), allow_nan=False)
        assert as_markdown(diagnosis.section()).startswith("# Diagnosis")
    if name == "healthy":  # forecasts of more steps than there are windows are judged as well
        found = made_findings(task="regression", kind="series", rows=12)
        assert diagnose(replace(found, horizon=24)).names
        assert names(replace(findings, **NOTHING)) == []


def test_leak_is_found_among_unmeasured_columns() -> None:
    found = made_findings(task="binary", kind="table")
    right = with_test(found, outputs=scored_rows(found).targets.astype(np.float32))
    falls = np.full((1000, 5), np.nan)
    falls[7], falls[8] = 0.5, 0.001
    columns = tuple(f"column {number}" for number in range(1000))
    importances = ColumnImportances(metric="f1", part="validation", columns=columns, falls=falls)
    metrics = {**found.metrics, "test/accuracy": 1.0, "test/f1": 1.0, "test/recall": 1.0}
    leaky = replace(right, metrics=metrics, importances=importances)
    (leakage,) = [one for one in diagnose(leaky).verdicts if one.name == "leakage"]
    assert "'column 7' alone has 100 %" in leakage.evidence


def gap(rows: int) -> Findings:
    """A regression that is answered better for its training rows than for its validation rows."""
    made = made_findings(task="regression", rows=rows)
    metrics = {**made.metrics, "best/val/r2": 0.7}
    return replace(made, training={"r2": 0.9}, metrics=metrics)


def diverged(steps: float) -> Findings:
    """A run that diverged after calm gradients, whose last steps were so many times as long."""
    sick, calm = exploding(), np.array([0.5, 0.6, 1.0])
    return with_vitals(sick, first=calm, gradients=calm[None], updates=calm[None] * steps)


def test_only_causes_are_reported_worst_first() -> None:
    """What chance explains is not reported, other than that the rows are few."""
    assert names(no_better("naive", "regression")) == ["no_better_than_naive"]
    assert names(no_better("linear", "regression")) == ["no_better_than_linear"]
    assert names(gap(240)) == ["overfitting"]
    assert names(gap(30)) == ["noisy_metrics"]  # its RMSE may be 0.6 or 1.8
    assert names(diverged(20)) == ["lr_too_high"]
    assert names(diverged(1 / 20)) == ["exploding_gradient"]  # by small steps
    assert names(poorly(made_findings(activity=activity(dead=0.9)))) == ["dead_relu"]
    late: dict[str, Any] = {"clipping": never().clipping, "history": never().history}
    assert names(replace(overfitted(), **late)) == ["overfitting", "clipping_never"]
    assert names(with_history(never(), grad__norm_max=[np.nan] * 12)) == []
    healthy = made_findings()
    rescaled = with_vitals(vanishing(), updates=vitals_of(healthy).updates)  # by the optimizer
    assert names(replace(rescaled, training=healthy.training)) == []
    nothing = poorly(no_better("naive"))  # where a line finds something, and where it does not
    assert names(nothing) == ["underfitting"]
    blind = with_test(nothing, linear=scored_rows(nothing).outputs[::-1].copy())
    assert names(blind) == ["no_better_than_naive"]


def test_what_no_baseline_predicts_is_no_underfitting() -> None:
    """Noise explains it, unless trees or a line predict test rows better than those trained on."""
    weak = poorly(made_findings())
    known = scored_rows(weak).baselines["linear"]
    unknown = known[::-1].copy()

    def verdicts(**recalls: float) -> list[str]:
        outputs = {name: known if recall > 0.5 else unknown for name, recall in recalls.items()}
        scores = {f"{name}/recall": recall for name, recall in recalls.items()}
        return names(replace(with_test(weak, **outputs), metrics={**weak.metrics, **scores}))

    assert verdicts(linear=0.3) == ["underfitting"]  # without trees
    assert verdicts(linear=0.3, trees=0.3) == []
    assert verdicts(linear=0.3, trees=0.9) == ["underfitting"]
    assert verdicts(linear=0.9, trees=0.3) == ["underfitting"]


def test_values_cut_to_little_are_offered_a_threshold() -> None:
    """The same threshold for the norm would leave even less."""
    sick = clipped(1e-6, grad__clipped=1.0, grad__norm_clipped=0.001)
    sick = replace(sick, clipping=replace(sick.clipping, algorithm="value"))
    assert only_verdict(sick).cures[0].startswith("trainer.gradient_clip_val=")


UNCLIPPED = Clipping(threshold=None, algorithm="norm", chosen=True)


def with_settings(findings: Findings, **sections: Any) -> Findings:
    """Findings of a run with other settings; a mapping changes a section's."""
    config = dict(findings.config)
    for key, value in sections.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    return replace(findings, config=config)


def worse_than(baseline: str, network: float, theirs: float, rows: int) -> Findings:
    """A regression of which both err by normal errors of so much."""
    made = made_findings(task="regression", rows=rows, intervals={})
    noise = np.random.default_rng(1).normal(size=(2, rows, 1))
    targets = scored_rows(made).targets
    changed = {"outputs": targets + network * noise[0], baseline: targets + theirs * noise[1]}
    return with_test(made, **changed)


def test_leaking_column_extends_the_dropped_columns() -> None:
    for dropped, cures in (
        (["name", "town"], ("data.drop=[name,town,id]",)),
        (["name"], ("data.drop=[name,id]",)),
        ([], ("data.drop=[id]",)),
        (["house number"], ('data.drop=["house number",id]',)),
        ([2019], ("data.drop=[2019,id]",)),
    ):
        assert only_verdict(with_settings(leaked(), data={"drop": dropped})).cures == cures


def test_network_worse_than_naive_is_reported() -> None:
    """It is significant however wide the interval is."""
    verdict = only_verdict(worse_than("naive", network=20.0, theirs=8.0, rows=60))
    assert verdict.name == "no_better_than_naive"
    assert verdict.numbers["high"] < 0
    assert verdict.numbers["high"] - verdict.numbers["low"] > 1
    larger = -100 * verdict.numbers["high"]
    assert f"MSE at least {larger:.0f} % higher" in verdict.evidence


def test_network_worse_than_seasonal_baseline_is_reported() -> None:
    made = replace(
        worse_than("naive", network=4.0, theirs=12.0, rows=400),
        baselines={"naive": "last value", "seasonal": "value 12 steps before"},
        season=12,
    )
    targets, noise = scored_rows(made).targets, np.random.default_rng(2).normal(size=(400, 1))
    for error, said in ((2.0, "no_better_than_naive"), (8.0, "healthy")):
        found = diagnose(with_test(made, seasonal=targets + error * noise, linear=None))
        assert found.names == said
        if said != "healthy":
            (line,) = found.lines()
            assert " for value 12 steps before; MSE at least " in line
            assert line.endswith("; try data.difference=12")
    far = replace(made, horizon=13)  # more steps than the last season tells
    (line,) = diagnose(with_test(far, seasonal=targets + 2 * noise, linear=None)).lines()
    assert line.endswith("; use value 12 steps before")


def test_unknown_gain_is_reported_without_percentage() -> None:
    verdict = only_verdict(worse_than("naive", network=8.0, theirs=8.0, rows=30))
    assert verdict.name == "noisy_metrics"
    assert "for training mean on 30 test rows; not significant" in verdict.evidence
    assert "%" not in verdict.evidence


def test_test_share_given_by_reference_is_not_changed() -> None:
    sick = worse_than("naive", network=8.0, theirs=8.0, rows=30)
    for changed, offered in (
        ({}, True),
        ({"test": "${oc.env:SHARE}"}, False),
        ({"last": 30}, False),  # it takes the place of the share
    ):
        cures = only_verdict(with_settings(sick, data={"test": 0.2, **changed})).cures
        assert ("data.test=0.4" in cures) is offered


def test_linear_network_is_offered_a_layer_before_rows() -> None:
    """It can't learn XOR, whatever the number of rows."""
    few = made_findings(rows=9)
    for made, hidden, offered in (
        (poorly(few), [], True),
        (poorly(few), [8], False),
        (few, [], False),
    ):
        verdict = diagnose(with_settings(made, model={"hidden": hidden})).verdicts[-1]
        assert verdict.name == "noisy_metrics"
        assert ("model.hidden=[64]" in verdict.cures) is offered


def test_dead_units_and_long_steps_share_one_cure() -> None:
    for far, both in ((100, False), (10_000, True)):
        dead, high = diagnose(replace(moved(far), activity=activity(dead=0.9))).verdicts
        assert (dead.name, high.name) == ("dead_relu", "lr_too_high")
        assert dead.cures[0] == high.cures[0]
        assert ("model.activation=leaky_relu" in dead.cures) is not both


@pytest.mark.parametrize(
    ("optimizer", "far", "clips"),
    [("sgd", 100, True), ("sgd", 10_000, False), ("adam", 100, False)],
)
def test_clipping_is_offered_where_it_helps(optimizer: str, far: int, clips: bool) -> None:
    config = config_of(f"optimizer={optimizer}", "trainer.gradient_clip_val=null")
    verdict = only_verdict(replace(moved(far), clipping=UNCLIPPED, config=config))
    assert verdict.name == "lr_too_high"
    assert ("trainer.gradient_clip_val=1.0" in verdict.cures) is clips
    # Steps that grow without bounds lead to a usual rate, not to one of nothing or of hundreds.
    for rate, offered in ((30, "0.009"), (1e6, "0.05")):
        words = (f"optimizer={optimizer}", f"optimizer.lr={rate}")
        usual = offered if optimizer == "sgd" else "0.009" if rate == 30 else "0.01"
        endless = replace(moved(1e8), config=config_of(*words))
        assert diagnose(endless).verdicts[0].cures == (f"optimizer.lr={usual}",)


def test_long_steps_without_rising_loss_are_no_fault() -> None:
    calm = with_history(moved(100), train__loss=[1.3, *[1.1] * 11])
    assert "lr_too_high" not in names(calm)


@pytest.mark.parametrize(
    ("loss", "said"),
    [([2.6], "too_few_steps"), ([2.6, 1.4], "stopped_early"), ([2.6, 2.9], "lr_too_high")],
)
def test_loss_of_initial_weights_is_no_rise(loss: list[float], said: str) -> None:
    """Of three steps an epoch, the mean loss of an epoch is above that of a constant answer."""
    made = with_steps(poorly(made_findings(steps=3, epochs=len(loss))), 20)
    assert names(with_history(made, train__loss=loss, val__loss=loss))[0] == said


def test_default_learning_rates_are_within_known_limits() -> None:
    for name in ("sgd", "adagrad", "adam", "adamw", "nadam", "rmsprop"):
        config = config_of(f"optimizer={name}")["optimizer"]
        kind = config["_target_"].rpartition(".")[2]
        assert config["lr"] <= HIGHEST.get(kind, HIGHEST_OF_OTHERS)


def test_low_rate_is_not_blamed_on_clipping() -> None:
    """Adam undoes the clipping, since it rescales the gradients."""
    for optimizer, name in (("adam", "lr_too_low"), ("sgd", "clipping_always")):
        slow = with_settings(
            poorly(clipped(0.001, grad__clipped=1.0, grad__norm_clipped=0.001)),
            optimizer=dict(config_of(f"optimizer={optimizer}")["optimizer"]),
        )
        assert names(with_steps(slow, 1e-4)) == [name]


def test_loss_raised_by_dropout_is_no_fault() -> None:
    far = with_history(with_steps(made_findings(), 20), train__loss=[1.2] * 12)
    for share, said in ((0.0, "lr_too_high"), (0.9, "healthy")):
        found = with_settings(far, model={"dropout": share})
        assert diagnose(found).names == said


def test_narrow_network_is_offered_units_before_epochs() -> None:
    slow = with_history(no_better("linear"), val__loss=np.linspace(1.0, 0.3, 12))
    for hidden, cure in (([2], "model.hidden=[16]"), ([64], "trainer.max_epochs=36")):
        found = with_settings(slow, model={"hidden": hidden})
        assert diagnose(found).verdicts[0].cures[0] == cure


def test_very_short_training_is_offered_more_epochs() -> None:
    """A training of 6 epochs is offered 60, one of 12 is offered 36."""
    for planned, offered in ((6, 60), (12, 36)):
        short = replace(SICK["stopped_early"](), planned=planned)
        assert f"trainer.max_epochs={offered}" in only_verdict(short).cures


def linear(findings: Findings) -> Findings:
    """The same findings, of a network without a hidden layer."""
    config = config_of("model=mlp", "data=wine", "model.hidden=[]")
    return replace(findings, model="MLP", config=config)


def test_useless_linear_network_is_offered_a_hidden_layer() -> None:
    for task in ("multiclass", "regression"):
        verdict = only_verdict(linear(no_better("naive", task)))
        assert verdict.name == "no_better_than_naive"
        assert verdict.cures[0] == "model.hidden=[64]"
    right = {"accuracy": 0.9, "recall": 0.9}
    lucky = made_findings(task="binary", training=right)  # more often than the naive loss allows
    same = with_history(lucky, train__loss=[0.7] * 12, val__loss=[0.7] * 12)
    verdict = only_verdict(linear(same))
    assert (verdict.name, verdict.cures[0]) == ("underfitting", "model.hidden=[64]")


def test_two_columns_leak_if_linear_baseline_agrees() -> None:
    columns = ("code", "ward", "age", "weight", "size")
    falls = np.array([[0.3], [0.25], [0.01], [0.0], [0.0]])
    both = ColumnImportances(metric="f1", part="validation", columns=columns, falls=falls)
    found = with_settings(replace(leaked(), importances=both), data={"drop": []})

    def scoring(line: float, network: float = 1.0) -> Findings:
        scores = {"linear/accuracy": line, "test/accuracy": network}
        return replace(found, metrics={**found.metrics, **scores})

    assert names(scoring(0.97)) == ["leakage"]
    assert names(scoring(0.7)) == []
    all_but_three = replace(both, columns=columns[:3], falls=np.array([[0.3], [0.01], [0.0]]))
    assert names(replace(found, importances=all_but_three)) == []
    assert "leakage" not in names(scoring(1.0, network=0.6))  # the network is at fault
    verdict = only_verdict(scoring(1.0))
    assert verdict.cures == ("data.drop=[code,ward]",)
    assert verdict.evidence == (
        "test accuracy 100.0 %, and columns 'code' and 'ward' have 98 % of the importance"
    )


def test_near_copies_are_an_overlap() -> None:
    verdict = only_verdict(made_findings(near_copies=60))
    assert verdict.name == "overlap"
    assert "60 of 240 test rows nearly have the inputs of a training row" in verdict.evidence


def test_overlap_is_reported_from_ten_percent() -> None:
    verdict = only_verdict(made_findings(rows=240, repeated=24))
    assert verdict.line == (
        "overlap: 24 of 240 test rows have the inputs of a training row, so their results are "
        "optimistic; remove duplicates, or keep them in one part with data.group=COLUMN"
    )
    assert names(made_findings(rows=240, repeated=23)) == []


def test_early_rising_loss_is_overfitting() -> None:
    """It does not matter which epoch is kept."""
    made = made_findings(training={"accuracy": 0.7})
    made = replace(made, metrics={**made.metrics, "best/val/accuracy": 0.7})
    losses = {"train__loss": np.linspace(0.9, 0.2, 12), "val__loss": np.linspace(0.6, 1.2, 12)}
    verdict = only_verdict(replace(with_history(made, **losses), kept=1))
    assert verdict.name == "overfitting"
    assert verdict.evidence.endswith("and the validation loss rises after epoch 1 of 12")
    few = made_findings(rows=9, intervals={}, training=made.training, metrics=made.metrics)
    assert names(with_history(few, **losses)) == ["overfitting", "noisy_metrics"]
    sure = {**made.metrics, "best/val/accuracy": 0.9}  # too sure of few mistakes
    assert names(replace(with_history(made, **losses), metrics=sure)) == []


def test_slightly_rising_loss_needs_a_gap() -> None:
    """Without a gap between training and validation it is no overfitting."""
    made = made_findings(training={"accuracy": 0.7})
    falling, rising = np.linspace(0.9, 0.2, 12), np.linspace(0.6, 0.8, 12)
    made = with_history(made, train__loss=falling, val__loss=rising)
    for right, said in ((0.7, []), (0.62, []), (0.58, ["overfitting"])):
        metrics = {**made.metrics, "best/val/accuracy": right}
        assert names(replace(made, metrics=metrics)) == said


def test_epochs_count_if_validation_is_less_frequent() -> None:
    made = made_findings(epochs=50, training={"accuracy": 0.7})
    made = replace(made, metrics={**made.metrics, "best/val/accuracy": 0.7})
    train = np.array([0.9] * 10 + [0.2] * 40)  # it falls after the turn
    loss = dict(enumerate([0.7, 0.6, 0.7, *[1.2] * 7], 1))
    each = {
        epoch: {"train/loss": one} | ({} if epoch % 5 else {"val/loss": loss[epoch // 5]})
        for epoch, one in enumerate(train.tolist(), 1)
    }
    verdict = only_verdict(replace(made, kept=10, history=each))
    assert verdict.evidence.endswith("and the validation loss rises after epoch 10 of 50")


def test_cross_validation_is_offered_as_a_command() -> None:
    typed = "model=mlp 'data.path=my table.csv' data.fold=1 ++data.folds=3 name=few register=Few"
    few = with_settings(made_findings(rows=9, words=typed), data={"test": 0.4})
    command = "pipeline sweep sweeps=folds model=mlp 'data.path=my table.csv'"
    advice = f"more test rows, or cross-validation: {command}"
    assert only_verdict(few).advice == advice
    series = made_findings(task="regression", kind="series", rows=9)
    for other in (series, made_findings(rows=9)):  # the latter has no command line
        assert diagnose(other).verdicts[0].advice == "more test rows"


def test_more_epochs_need_a_late_best_epoch() -> None:
    late = no_better("linear")
    assert "trainer.max_epochs=36" in diagnose(late).verdicts[0].cures
    early = replace(late, kept=1)
    falling, rising = np.linspace(0.9, 0.3, 12), np.linspace(0.4, 0.8, 12)
    for sick in (early, with_history(early, train__loss=falling, val__loss=rising)):
        verdict = only_verdict(sick)
        assert verdict.name == "no_better_than_linear"
        assert not any("max_epochs" in cure for cure in verdict.cures)
    assert "(overfitting: the validation loss rises after epoch 1)" in verdict.evidence
    assert "optimizer.weight_decay=0.01" in verdict.cures


@pytest.mark.parametrize(("more_wrong", "said"), [(30, []), (60, ["no_better_than_linear"])])
def test_small_gain_of_linear_baseline_is_no_fault(more_wrong: int, said: list[str]) -> None:
    made = made_findings(rows=2400)
    outputs = scored_rows(made).outputs.copy()
    right = np.flatnonzero(scored_rows(made).called(0.5) == scored_rows(made).targets)[:more_wrong]
    outputs[right] = np.roll(outputs[right], 1, axis=1)
    assert names(with_test(made, outputs=outputs, linear=scored_rows(made).outputs)) == said


def test_best_epoch_and_early_stopping_are_offered() -> None:
    both = {"keep=best", "callbacks=early_stopping"}
    flat = with_history(overfitted(), val__loss=[0.5, *[0.6] * 11])
    sick = with_settings(flat, keep="last")
    assert both <= set(only_verdict(sick).cures)
    config = compose(["model=mlp", "data=wine", *both])
    check(config)
    stopping = with_settings(sick, keep="best", callbacks=dict(config.callbacks))
    assert not both & set(only_verdict(stopping).cures)
    falling = overfitted()  # to the end
    assert "callbacks=early_stopping" not in only_verdict(falling).cures


@pytest.mark.parametrize("task", TASKS)
def test_fewer_than_ten_test_rows_allow_no_verdict(task: Task) -> None:
    for rows in (1, 2, 9):
        made = of_rows(made_findings(task=task, rows=12, intervals={}), slice(rows))
        verdict = only_verdict(replace(made, rows={**made.rows, "test": rows}))
        assert verdict.name == "noisy_metrics"
        assert verdict.evidence == f"{rows} test rows are too few for any conclusion"


def test_memorizing_run_is_judged_on_its_batches() -> None:
    """But on whether it has learned the few batches that it trains on."""
    memorizes = {"overfit_batches": 3}
    for sick in (no_better("naive"), no_better("linear"), overfitted()):
        assert names(with_settings(sick, trainer=memorizes)) == []
    assert names(with_settings(poorly(made_findings()), trainer=memorizes)) == ["underfitting"]
    # Nothing is learned for the test rows, but any few batches can be memorized.
    useless = with_settings(poorly(no_better("naive")), trainer=memorizes)
    assert names(useless) == ["underfitting"]


def test_true_labels_are_offered_instead_of_shuffled_ones() -> None:
    for sick in (no_better("naive"), poorly(made_findings()), overfitted()):
        verdict = only_verdict(with_settings(sick, data={"shuffle_labels": 3}))
        assert verdict.cures == ("data.shuffle_labels=null",)
        assert "shuffled" in verdict.line


def test_share_of_clipped_steps_is_rounded_down() -> None:
    sick = clipped(0.001, grad__clipped=0.967, grad__norm_clipped=0.001)
    assert only_verdict(sick).evidence.startswith("96 % of steps are clipped, to ")


def test_clipping_in_a_single_epoch_is_no_fault() -> None:
    sick = clipped(0.001, grad__clipped=1.0, grad__norm_clipped=0.001)
    for epochs in (1, 2):
        first = {epoch: sick.history[epoch] for epoch in range(1, epochs + 1)}
        assert ("clipping_always" in names(replace(sick, history=first))) is (epochs > 1)


def test_auroc_without_interval_is_not_chance() -> None:
    made = made_findings(task="binary", rows=800, monitor="val/accuracy")
    targets = np.arange(800) < 28  # too few of one class for an interval of the area
    outputs = np.where(targets, -1.0, -3.0) + np.random.default_rng(0).normal(0, 0.5, 800)
    outputs[:3] = 1.0
    arrays = {"targets": targets.astype(np.int64), "outputs": outputs, "naive": np.full(800, -3.0)}
    metrics = {**made.metrics, "test/auroc": 0.98, "test/accuracy": 775 / 800}
    found = replace(made, metrics=metrics, intervals={"accuracy": (0.955, 0.981)})
    assert "no_better_than_naive" not in names(with_test(found, **arrays))


def test_column_ahead_of_a_series_is_a_leak() -> None:
    ahead = made_findings(task="regression", kind="series", leading="wind")
    verdict = only_verdict(with_settings(ahead, data={"columns": ["load", "wind"]}))
    assert verdict.name == "leakage"
    assert verdict.evidence == "column 'wind' holds the next value of 'load'"
    assert verdict.cures == ("data.columns=[load]",)
    table = made_findings(task="regression", leading="tomorrow", targets=(), label="price")
    verdict = only_verdict(with_settings(table, data={"drop": ["id"]}))
    assert verdict.evidence == "column 'tomorrow' holds the next value of 'price'"
    assert verdict.cures == ("data.drop=[id,tomorrow]",)


def test_weighted_run_is_judged_by_equal_classes() -> None:
    """Its accuracy may be below that of the most frequent class."""
    made = made_findings(task="binary", shares=(0.95, 0.05))
    made = replace(made, training={"accuracy": 0.94, "recall": 0.98})
    validated = {"best/val/accuracy": 0.9, "best/val/recall": 0.3}
    made = replace(made, metrics={**made.metrics, **validated})
    for weights, verdict_names in ((None, []), ([1, 19], ["overfitting"])):
        assert names(with_settings(made, loss={"class_weights": weights})) == verdict_names


def test_one_class_for_all_rows_gets_no_threshold() -> None:
    for predicted, is_offered in ((0.2, False), (0.6, True)):
        made = made_findings(task="binary", shares=(0.9, 0.1))
        test = scored_rows(made)
        outputs = np.full_like(test.outputs, 0.2)
        outputs[0] = predicted
        verdict = diagnose(with_test(made, outputs=outputs)).verdicts[0]
        assert verdict.name == "class_collapse"
        assert ("metrics.threshold=best_f1" in verdict.cures) is is_offered


def test_series_without_memory_is_checked_for_its_order() -> None:
    made = replace(
        worse_than("mean", network=8.0, theirs=5.0, rows=400),
        kind="series",
        targets=("load",),
        baselines={"naive": "last value", "mean": "training mean"},
    )
    targets, noise = scored_rows(made).targets, np.random.default_rng(2).normal(size=(400, 1))
    shuffled = with_test(made, naive=targets + 10 * noise, linear=None)
    verdict = only_verdict(shuffled)
    assert verdict.name == "no_better_than_naive"
    assert verdict.advice.endswith("check whether the rows are in order of time")


def test_forecast_behind_its_last_value_is_offered_changes() -> None:
    for difference, is_offered in ((None, True), (1, False)):
        made = worse_than("naive", network=8.0, theirs=4.0, rows=400)
        trend = with_test(replace(made, kind="series", targets=("load",)), linear=None)
        verdict = only_verdict(with_settings(trend, data={"difference": difference}))
        assert verdict.name == "no_better_than_naive"
        assert ("data.difference=1" in verdict.cures) is is_offered


def test_whole_test_is_offered_before_a_larger_share() -> None:
    few = made_findings(rows=9)
    for limit, cure in ((1, "trainer.limit_test_batches=null"), (None, "data.test=0.4")):
        verdict = only_verdict(with_settings(few, trainer={"limit_test_batches": limit}))
        assert verdict.cures[0] == cure
