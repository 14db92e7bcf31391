"""Ranges, and a space of them: read, drawn, written for Optuna and for Hydra, counted, compared."""

import json
from itertools import product
from math import inf, nan
from typing import Any

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from study.spaces import cases, study

from pipeline.base.errors import ConfigError
from pipeline.study.space.ranges import FORMS, Range, text_of, value_of
from pipeline.study.space.space import Space, value_at

ARCHITECTURE = ("sweeps=architecture", "model=choice(mlp,cnn1d,gru)")
CLIP = ("model=lstm", "sweeps=lr_epochs_clip")
GROUPS = ("model=choice(mlp, gru)", "scheduler=choice(none, cosine)")
EACH_KIND = (
    "optimizer.lr=tag(log, interval(1e-4, 1e-1))",
    "trainer.max_epochs=int(interval(5, 40))",
    "trainer.gradient_clip_val=tag(off, log, interval(0.1, 10))",
    "data.batch_size=range(8, 72, 8)",
    "model.dropout=range(0.0, 0.6, 0.1)",
    "model.hidden=choice([], [64], [128, 64])",
    "optimizer=choice(adam, adamw)",
)


def range_of(source: object) -> Range:
    """The range of the seed that a text, or a value of YAML, describes."""
    return Range.read(source, key="seed")


def random_points(space: Space, count: int) -> list[tuple[dict[str, Any], dict[str, str]]]:
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
def test_point_is_equal_in_optuna_hydra_and_config(words: tuple[str, ...]) -> None:
    """The space is equal in the database."""
    space, trees = study(*words)
    for params, texts in random_points(space, 40):
        groups = {key: value_of(text) for key, text in texts.items() if key in trees.choices}
        config = trees.config(texts)
        plain = {key: value_at(config, groups, key) for key in texts}
        assert space.overrides(params) == texts
        assert space.params(plain) == pytest.approx(params) == params
        assert all(plain[key] == value_of(text) for key, text in texts.items())
    stored = json.loads(json.dumps(space.plain()))
    assert [Range.from_plain(values) for values in stored.values()] == list(space.parameters)
    assert space.differences(stored) == ([], [])


def test_conditional_range_is_drawn_only_where_it_holds() -> None:
    space, _ = study(*ARCHITECTURE)
    for params, texts in random_points(space, 40):
        assert ("model.channels" in texts) == (texts["model"] == "cnn1d")
        assert ("model.readout" in texts) == (texts["model"] == "gru")
        assert all(f"({texts['model']})" in name for name in params if "(" in name)


@pytest.mark.parametrize("kind", ["norm", "value"])
def test_condition_on_fixed_key_uses_the_config(kind: str) -> None:
    space, _ = study(*CLIP, f"trainer.gradient_clip_algorithm={kind}")
    name = f"trainer.gradient_clip_val ({kind})"
    names = {name for params, _ in random_points(space, 20) for name in params if "clip" in name}
    assert names == {f"{name} on", name}


def test_grid_is_the_ordered_product_of_values() -> None:
    space, _ = study("sweeps=models")
    expected = product(
        ["mnist1d", "synthetic_control"], ["mlp", "cnn1d", "rnn", "gru", "lstm"], range(3)
    )
    assert space.points() == [
        {"data": data, "model": model, "seed": seed} for data, model, seed in expected
    ]
    assert space.size() == 30


def test_grid_counts_conditional_points_where_they_hold() -> None:
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


POINTS: dict[tuple[str, ...], dict[str, object] | None] = {
    CLIP: {
        "optimizer.lr": 0.01,
        "trainer.max_epochs": 20,
        "trainer.gradient_clip_val (norm) on": True,
        "trainer.gradient_clip_val (norm)": 1.0,
    },
    ("optimizer.lr=interval(0.1, 1)", "seed=range(0, 5)"): None,  # one value lies outside
    GROUPS: {"model": "mlp", "scheduler": "cosine"},
}


@pytest.mark.parametrize("words", POINTS, ids=" ".join)
def test_config_is_a_point_if_within_the_space(words: tuple[str, ...]) -> None:
    space, trees = study(*words)
    point, outside = space.point_of(trees.config(), trees.choices)
    assert point == POINTS[words]
    assert outside == ([] if point else ["optimizer.lr=0.01"])


def test_value_without_its_condition_is_not_read() -> None:
    space, _ = study(
        "model=choice(mlp,lstm)", r"sweep.when={model\=lstm: {model.dropout: 'choice(0.1,0.2)'}}"
    )
    tree = OmegaConf.create({"model": {"dropout": "${absent}"}})
    assert space.point_of(tree, {"model": "mlp"}) == ({"model": "mlp"}, [])


def test_start_point_without_its_condition_is_refused() -> None:
    space, _ = study(*ARCHITECTURE)
    with pytest.raises(ConfigError) as refused:
        space.params({"model.readout": "last"})
    assert refused.value.problems == (
        "sweep.enqueue.model.readout has a range only where model=rnn or model=gru or "
        "model=lstm; set that as well",
    )
    params = space.params({"model": "gru", "model.readout": "last"})
    assert params == {"model": "gru", "model.readout (gru)": "last"}


CHANGES = r"""
seed=range(0, 5)  seed=range(0, 5)

optimizer.lr=interval(0.01, 0.1)  optimizer.lr=interval(0.01, 0.2)
- sweep.space.optimizer.lr was interval(0.01, 0.1) and is interval(0.01, 0.2) now

optimizer.lr=interval(0.01, 0.1)  optimizer.lr=tag(log, interval(0.01, 0.1))
- ! sweep.space.optimizer.lr was interval(0.01, 0.1) and is tag(log, interval(0.01, 0.1)) now

seed=range(0, 5)  seed=choice(0, 1)
- ! sweep.space.seed was range(0, 5) and is choice(0, 1) now

model.norm=choice(none, batch)  model.norm=choice(none, layer)
- ! sweep.space.model.norm was choice(none, batch) and is choice(none, layer) now

seed=range(0, 5)  model.dropout=interval(0, 0.5)
- sweep.space.model.dropout=interval(0, 0.5) is new
- sweep.space.seed=range(0, 5) is gone

seed=range(0, 5)  sweep.when={model\=mlp: {seed: 'range(0, 5)'}}
- sweep.space.seed was range(0, 5) and is sweep.when.model=mlp.seed=range(0, 5) now
"""


@pytest.mark.parametrize(("words", "lines"), cases(CHANGES))
def test_changed_space_shows_old_and_new_range(words: list[str], lines: list[str]) -> None:
    old, new = (study(word)[0] for word in words)
    stored = json.loads(json.dumps(old.plain()))
    unbearable = [line.removeprefix("! ") for line in lines if line.startswith("!")]
    assert new.differences(stored) == ([] if unbearable else lines, unbearable)
    assert old.differences(stored) == ([], [])


# ── the grammar of ranges ──────────────────────────────────────────────────────────────────────

RIGHT = [
    "interval(1e-4, 1e-1)",
    "tag(log, interval(1e-4, 1e-1))",
    "tag(off, log, interval(0.1, 10))",
    "int(interval(5, 40))",
    "tag(log, int(interval(5, 40)))",
    "range(0, 5)",
    "range(1, 10, 3)",
    "range(0.1, 0.7, 0.2)",
    "tag(off, range(0, 3))",
    "choice(relu, gelu)",
    "choice([64], [128, 64])",
    "choice('1', 1, true)",
    "tag(off, choice(1, 2))",
    "null,1",
]


@pytest.mark.parametrize("text", RIGHT)
def test_range_survives_writing_and_reading(text: str) -> None:
    parsed = range_of(text)
    assert range_of(str(parsed)) == parsed


@pytest.mark.parametrize(
    "text",
    ["range(5)", "range(0, 5)", "range(1, 10, 3)", "range(0.0, 1.0, 0.25)", "choice(a, b)", "1,2"],
)
def test_range_values_equal_those_of_hydra(text: str) -> None:
    override = OverridesParser.create().parse_override(f"key={text}")
    assert list(range_of(text).texts()) == list(override.sweep_string_iterator())


def test_decimal_steps_have_no_binary_remainder() -> None:
    parsed = range_of("range(0.1, 0.7, 0.1)")
    assert list(parsed.texts()) == ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6"]
    assert parsed.text(0.1 + 0.2) == "0.3"  # binary: 0.30000000000000004
    assert parsed.holds(0.3)


def test_integer_ranges_include_both_ends() -> None:
    """A value that is switched off is one more."""
    assert range_of("int(interval(5, 8))").texts() == ["5", "6", "7", "8"]
    assert range_of("int(interval(5, 8))").count() == 4
    assert range_of("tag(off, range(0, 2))").texts() == ["null", "0", "1"]
    assert range_of("tag(off, choice(a, b))").texts() == ["null", "a", "b"]
    assert range_of("tag(off, interval(0.1, 10))").holds(None)
    assert range_of("interval(0, 1)").count() is None


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("interval(0, 1)", [0, 0.5, 1.0], [-0.1, 1.1, "0.5", True, nan, inf, None]),
        ("int(interval(5, 40))", [5, 40], [4, 41, 5.0, "5", True]),
        ("range(0, 10, 5)", [0, 5], [10, 1, 2.5]),
        ("choice([64], [128, 64])", [[64], [128, 64]], [[128], 64, "[64]"]),
        ("choice('1', 2)", ["1", 2], [1, "2"]),
    ],
)
def test_range_compares_by_value_and_type(
    text: str, inside: list[object], outside: list[object]
) -> None:
    parsed = range_of(text)
    assert [parsed.holds(value) for value in inside] == [True] * len(inside)
    assert [parsed.holds(value) for value in outside] == [False] * len(outside)


WRONG: dict[object, str] = {
    "interval(1, 0.1)": "low 1 > high 0.1; expected low < high",
    "interval(1, 1)": "low 1 = high 1; expected low < high",
    "range(5, 1)": "start 5 > stop 1; expected start < stop",
    "tag(log, interval(0, 1))": "log needs low > 0, and low is 0; raise it, or remove log",
    "tag(log, range(1, 9, 2))": (
        "log and a step can't be combined; write interval(low, high), or remove log"
    ),
    "tag(log, choice(1, 2))": "log does not apply to choices; remove it",
    "interval(nan, 1)": "low is nan; expected a finite number",
    "interval(0, inf)": "high is inf; expected a finite number",
    "interval(-inf, nan)": (
        "low is -inf; expected a finite number\nhigh is nan; expected a finite number"
    ),
    "int(interval(0, inf))": "high is inf; expected a finite number",
    "range(0, inf)": "stop is inf; expected a finite number",
    "interval('1e-4', 1)": "a bound is a string; expected a number without quotes, such as 1e-4",
    "int(interval(1.5, 3.7))": "1.5 is not a whole number, which int needs",
    "int(choice(1, 2.5))": "2.5 is not a whole number, which int needs",
    "range(0, 5, 0)": "step is 0; expected a step > 0",
    "range(5, 0, -1)": "step is -1; expected a step > 0",
    "range(0, 10, 3)": "step 3 does not divide the range from 0 to 10; stop before 9 or 12",
    "range(0, 1, 0.3)": ("step 0.3 does not divide the range from 0 to 1; stop before 0.9 or 1.2"),
    "range(0, 1)": "it has only one value, 0; expected two or more",
    "choice()": "choice() is empty; expected two values or more",
    "choice(64)": "it has only one value, 64; expected two or more",
    "choice(a, b, a)": "duplicate choice a; list it once",
    "choice({a: 1}, 2)": "a choice is a mapping; vary its keys one by one",
    "choice(null, 1)": (
        "null is not allowed in choice(…); write null,a,b, or tag(off, …) around the choice"
    ),
    "tag(lgo, interval(1, 2))": "the tag lgo is unknown; expected log or off. Did you mean 'log'?",
    "shuffle(range(1, 5))": "shuffle does not apply to a study; remove it",
    "interval(1)": f"it can't be parsed (missing a required argument: 'end'); expected {FORMS}",
    "3": f"3 is a single value; expected {FORMS}",
    "": f"nothing is a single value; expected {FORMS}",
    3: f"3 is a single value; expected {FORMS}",
    None: f"null is a single value; expected {FORMS}",
    (1, 2): f"[1,2] is a single value; expected {FORMS}",
}


@pytest.mark.parametrize("text", WRONG)
def test_invalid_range_names_the_expected_form(text: object) -> None:
    parameter = range_of(text)
    lines = [f"{parameter.written}: {line}" for line in WRONG[text].split("\n")]
    assert [line.removesuffix(".") for line in parameter.problems] == lines


def test_cast_around_a_tag_keeps_the_tag() -> None:
    assert range_of("int(tag(off, choice(1, 2)))").choices == ("null", "1", "2")
    assert range_of("int(tag(log, interval(1, 100)))").log


VALUES: list[object] = [
    *(None, True, False, 0, -3, 1.0, 1e-05, 1e300, 2**60, "lstm", "", " a", "a b", "1", "1e-3"),
    *("null", "true", "a,b", "[1]", "{x}", "it's", 'say "a"', "数据", "a\\", "x=1", "${seed}"),
    *([], [64], [128, [64, 3]], ["a", "1", None], {"shapes": [[1, 5], 3]}, {}),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_value_survives_its_text_with_its_type(value: object) -> None:
    again = value_of(text_of(value))
    assert again == value
    assert type(again) is type(value)


@pytest.mark.parametrize("text", ["1,2", "choice(1, 2)", "[1", "interval(0, 1)"])
def test_text_without_exactly_one_value_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"has several values|can't be read"):
        value_of(text)
