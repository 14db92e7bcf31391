"""A space: points drawn, written for Optuna and for Hydra, counted, compared with an older one."""

import json
from itertools import product
from typing import Any

import optuna
import pytest
from omegaconf import OmegaConf
from spaces import study

from pipeline.errors import ConfigError
from pipeline.study.space.ranges import value_of
from pipeline.study.space.space import Space

ARCHITECTURE = ("sweeps=architecture", "model=choice(mlp,cnn1d,gru)")
CLIP = ("model=lstm", "sweeps=lr_epochs_clip")
EACH_KIND = (
    "optimizer.lr=tag(log, interval(1e-4, 1e-1))",
    "trainer.max_epochs=int(interval(5, 40))",
    "trainer.gradient_clip_val=tag(off, log, interval(0.1, 10))",
    "data.batch_size=range(8, 72, 8)",
    "model.dropout=range(0.0, 0.6, 0.1)",
    "model.hidden=choice([], [64], [128, 64])",
    "optimizer=choice(adam, adamw)",
)


def drawn(space: Space, count: int) -> list[tuple[dict[str, Any], dict[str, str]]]:
    """Return random points as Optuna holds them and as they were suggested."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    random = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    points = []
    for _ in range(count):
        trial = random.ask()
        texts = space.suggest(trial)
        points.append((dict(trial.params), texts))
        random.tell(trial, 0.0)
    return points


@pytest.mark.parametrize("words", [ARCHITECTURE, CLIP, EACH_KIND], ids=["when", "clip", "kinds"])
def test_a_point_is_the_same_to_optuna_to_hydra_and_in_the_config(words: tuple[str, ...]) -> None:
    space, trees = study(*words)
    groups = set(trees.choices)
    for params, texts in drawn(space, 40):
        config = trees.config(texts)
        values = {
            key: value_of(text) if key in groups else OmegaConf.select(config, key)
            for key, text in texts.items()
        }
        plain = {
            key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            for key, value in values.items()
        }
        assert space.overrides(params) == texts
        assert space.params(plain) == pytest.approx(params) == params
        assert all(plain[key] == value_of(text) for key, text in texts.items())


def test_every_value_that_is_drawn_lies_within_its_range() -> None:
    space, trees = study(*EACH_KIND)
    for _, texts in drawn(space, 60):
        run = trees.config(texts)
        assert 1e-4 <= run.optimizer.lr <= 1e-1
        assert run.trainer.max_epochs in range(5, 41)
        clip = run.trainer.gradient_clip_val
        assert clip is None or 0.1 <= clip <= 10
        assert run.data.batch_size in range(8, 72, 8)
        assert run.model.dropout in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
        assert run.model.hidden in ([], [64], [128, 64])
        assert run.optimizer["_target_"] in ("torch.optim.Adam", "torch.optim.AdamW")


def test_a_range_under_a_condition_is_drawn_only_where_it_holds() -> None:
    space, _ = study(*ARCHITECTURE)
    for params, texts in drawn(space, 40):
        assert ("model.channels" in texts) == (texts["model"] == "cnn1d")
        assert ("model.readout" in texts) == (texts["model"] == "gru")
        assert all(f"({texts['model']})" in name for name in params if "(" in name)


@pytest.mark.parametrize("kind", ["norm", "value"])
def test_a_condition_on_a_fixed_key_is_judged_on_the_config(kind: str) -> None:
    space, _ = study(*CLIP, f"trainer.gradient_clip_algorithm={kind}")
    name = f"trainer.gradient_clip_val ({kind})"
    names = {name for params, _ in drawn(space, 20) for name in params if "clip" in name}
    assert names == {f"{name} on", name}


def test_off_is_a_choice_of_its_own_to_optuna_and_null_in_the_config() -> None:
    key = "trainer.gradient_clip_val"
    space, trees = study(f"{key}=tag(off, interval(0.1, 10))")
    assert space.overrides({f"{key} on": False}) == {key: "null"}
    assert space.params({key: None}) == {f"{key} on": False}
    assert space.params({key: 2}) == {f"{key} on": True, key: 2.0}
    assert trees.config({key: "null"}).trainer.gradient_clip_val is None


def test_a_grid_is_the_product_of_its_values_in_order() -> None:
    space, _ = study("sweeps=models")
    expected = product(
        ["mnist1d", "synthetic_control"], ["mlp", "cnn1d", "rnn", "gru", "lstm"], range(3)
    )
    assert space.points() == [
        {"data": data, "model": model, "seed": seed} for data, model, seed in expected
    ]
    assert space.size() == 30


def test_a_grid_counts_the_points_under_conditions_where_they_hold() -> None:
    space, _ = study(
        "model=choice(mlp, gru, rnn)",
        "seed=range(0, 2)",
        "sweep.when={model\\=gru: {model.layers: 'range(1, 4)', model.norm: 'none,layer'}, "
        "model.layers\\=2: {model.hidden: 'choice(8, 9)'}, "
        "model\\=lstm: {model.dropout: 'choice(0.1, 0.2)'}}",
    )
    points = space.points()
    assert len(points) == space.size() == (1 + 2 * (1 + 1 + 2) + 1) * 2
    assert len({tuple(sorted(point.items())) for point in points}) == len(points)
    assert all(("model.layers" in point) == (point["model"] == "gru") for point in points)


@pytest.mark.parametrize(
    ("words", "point"),
    [
        (
            CLIP,
            {
                "optimizer.lr": 0.01,
                "trainer.max_epochs": 20,
                "trainer.gradient_clip_val (norm) on": True,
                "trainer.gradient_clip_val (norm)": 1.0,
            },
        ),
        (("optimizer.lr=interval(0.1, 1)", "seed=range(0, 5)"), None),
        (
            ("model=choice(mlp, gru)", "scheduler=choice(none, cosine)"),
            {"model": "mlp", "scheduler": "cosine"},
        ),
    ],
    ids=["within", "one value outside", "groups"],
)
def test_the_config_as_it_stands_is_a_point_where_it_lies_within(
    words: tuple[str, ...], point: dict[str, object] | None
) -> None:
    space, trees = study(*words)
    assert space.point_of(trees.config(), trees.choices) == point


def test_a_start_point_outside_or_unknown_is_told_value_by_value() -> None:
    space, _ = study(*CLIP)
    with pytest.raises(ConfigError) as refused:
        space.params({"optimizer.lr": 99, "optimizer.lrr": 0.1, "trainer.max_epochs": 7.5})
    assert refused.value.problems == (
        "sweep.enqueue.optimizer.lrr is not varied by this study. Did you mean 'optimizer.lr'?",
        "sweep.enqueue.optimizer.lr=99 lies outside of sweep.space.optimizer.lr="
        "tag(log, interval(0.0001, 0.1)).",
        "sweep.enqueue.trainer.max_epochs=7.5 lies outside of sweep.space.trainer.max_epochs="
        "int(interval(5, 40)).",
    )


def test_a_start_point_without_what_its_range_depends_on_is_refused() -> None:
    space, _ = study(*ARCHITECTURE)
    with pytest.raises(ConfigError) as refused:
        space.params({"model.readout": "last"})
    assert refused.value.problems == (
        "sweep.enqueue.model.readout has a range only where model=rnn or model=gru or "
        "model=lstm; give that as well",
    )
    given = space.params({"model": "gru", "model.readout": "last"})
    assert given == {"model": "gru", "model.readout (gru)": "last"}


LR_NOW = "sweep.space.optimizer.lr was interval(0.01, 0.1) and is"


@pytest.mark.parametrize(
    ("before", "after", "bearable", "unbearable"),
    [
        ("seed=range(0, 5)", "seed=range(0, 5)", [], []),
        (
            "optimizer.lr=interval(0.01, 0.1)",
            "optimizer.lr=interval(0.01, 0.2)",
            [f"{LR_NOW} interval(0.01, 0.2) now"],
            [],
        ),
        (
            "optimizer.lr=interval(0.01, 0.1)",
            "optimizer.lr=tag(log, interval(0.01, 0.1))",
            [],
            [f"{LR_NOW} tag(log, interval(0.01, 0.1)) now"],
        ),
        (
            "seed=range(0, 5)",
            "seed=choice(0, 1)",
            [],
            ["sweep.space.seed was range(0, 5) and is choice(0, 1) now"],
        ),
        (
            "model.norm=choice(none, batch)",
            "model.norm=choice(none, layer)",
            [],
            ["sweep.space.model.norm was choice(none, batch) and is choice(none, layer) now"],
        ),
        (
            "seed=range(0, 5)",
            "model.dropout=interval(0, 0.5)",
            [
                "sweep.space.model.dropout=interval(0, 0.5) is new",
                "sweep.space.seed=range(0, 5) is gone",
            ],
            [],
        ),
        (
            "seed=range(0, 5)",
            "sweep.when={model\\=mlp: {seed: 'range(0, 5)'}}",
            ["sweep.space.seed was range(0, 5) and is sweep.when.model=mlp.seed=range(0, 5) now"],
            [],
        ),
    ],
)
def test_a_changed_space_is_told_with_the_old_and_the_new_range(
    before: str, after: str, bearable: list[str], unbearable: list[str]
) -> None:
    old, new = study(before)[0], study(after)[0]
    stored = json.loads(json.dumps(old.plain()))
    assert new.differences(stored) == (bearable, unbearable)
    assert old.differences(stored) == ([], [])
