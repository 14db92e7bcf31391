"""Names on a command line and in YAML files: all wrong ones at once, before any value is read."""

from pathlib import Path

import pytest
from helpers.case_tables import cases, refusals
from helpers.config_command import CommandLine, choices, written
from helpers.refused_calls import refusal
from hydra.core.global_hydra import GlobalHydra

from pipeline.config.compose import compose

CONF = Path(__file__).parents[2] / "conf"
EXPERIMENT = "experiment/mine.yaml"
GOOD = "# @package _global_\nseed: 3\n"


MODELS = choices("model")
SETS = choices("data")
# What is suggested takes the value: `test` no text, `experiment` only its choices. A URL is refused
# whatever key has it. `quik` is a study, which `train` refuses.
PROBLEMS = f"""
trainer.epoch=3
- trainer.epoch is unknown. Did you mean 'trainer.max_epochs=3'?

epochs=5
- epochs is unknown. Did you mean 'trainer.max_epochs=5'?

lr=0.1
- lr is unknown. Did you mean 'optimizer.lr=0.1'?

target=Status
- target is unknown; data.target belongs to data=table. Did you mean 'data.target=Status'?

data=table target=Status
- target is unknown. Did you mean 'data.target=Status'?

data=series target=sales
- target is unknown; data.target belongs to data=table. Did you mean 'data.targets=sales'?

experiment_name=paper1
- experiment_name is unknown. Did you mean 'tracking.experiment=paper1'?

dataset=iris
- dataset is unknown. Did you mean 'data=iris'?

seeed=high
- seeed is unknown.

--epochs 5
- --epochs is not a flag; settings are KEY=VALUE. Did you mean 'trainer.max_epochs=5'?

--model=lstm
- --model=lstm is not a flag; settings are KEY=VALUE. Did you mean 'model=lstm'?

seed=1 --max-epochs
- unrecognized arguments: --max-epochs; see --help

data.test_rows=50
- data.test_rows is unknown. Did you mean 'data.last=50'?

model=lstmm
- model=lstmm is unknown; expected one of {MODELS}. Did you mean 'lstm'?

model=LSTM
- model=LSTM is unknown; expected one of {MODELS}. Did you mean 'lstm'?

data=p.csv data.target=sick
- data=p.csv is unknown; expected one of {SETS}. For your own file: data=table data.path=p.csv

data=../x/p.NPZ data.target=sick
- data=../x/p.NPZ is unknown; expected one of {SETS}. For your own file: data=arrays
  data.path=../x/p.NPZ

data=/x/pets data.target=sick
- data=/x/pets is unknown; expected one of {SETS}. For your own file: data=images
  data.path=/x/pets

data.path=s3://b/x.csv
- data.path='s3://b/x.csv' is a URL; copy it to this machine first, then set data=table
  data.path=x.csv

data=mnist1d data.path=s3://b/x.npz
- data.path='s3://b/x.npz' is a URL; copy it to this machine first, then set data=arrays
  data.path=x.npz

data=s3://b/x.csv
- data='s3://b/x.csv' is a URL; copy it to this machine first, then set data=table
  data.path=x.csv

path=s3://b/x.csv
- path='s3://b/x.csv' is a URL; copy it to this machine first, then set data=table
  data.path=x.csv

data.path=p.csv
- data.path is unknown; it belongs to data=arrays, idx, images, series, table, ucr. For your own
  file: data=table data.path=p.csv

model=a/b
- model=a/b is unknown; expected one of {MODELS}.

data.target=sick
- data.target is unknown; it belongs to data=table.

data=series data.target=sales
- data.target is unknown; it belongs to data=table. Did you mean 'data.targets=sales'?

model.kernel_size=3
- model.kernel_size is unknown; it belongs to model=cnn1d, cnn2d.

optimizer.momentm=0.9
- optimizer.momentm is unknown.

optimizer.lr=1,2
- 'optimizer.lr=1,2' has several values; expected one, a list 'optimizer.lr=[1,2]', a quoted
  string 'optimizer.lr="1,2"', or -m for one run each.

loss.direction=[max,min]
- loss.direction is unknown.

+seeed=3
- seeed is unknown. Did you mean 'seed=3'?

tags.fold=a
- tags.fold does not exist; add it with +tags.fold=a

+seed=3
- +seed=3: seed already exists; remove the +.

+trainer.use_distributed_sampler=false
- trainer.use_distributed_sampler can't be set here: the program distributes the rows itself.

--config-dir nowhere
- --config-dir 'nowhere' is not a folder.

lr
- 'lr' is not KEY=VALUE; see --help.

lstm
- 'lstm' is not KEY=VALUE. Did you mean 'model=lstm'?

quik
- 'quik' is not KEY=VALUE; see --help.

adaam
- 'adaam' is not KEY=VALUE. Did you mean 'optimizer=adam'?
"""


@pytest.mark.parametrize(("words", "message"), refusals(PROBLEMS))
def test_wrong_name_is_one_line_with_a_suggestion(
    line: CommandLine, words: str, message: str
) -> None:
    assert line.problem(*words.split()) == message


def test_hydra_tracebacks_become_one_line(line: CommandLine) -> None:
    for word in ("model=3", "debug=true", "callbacks=[ema,none_such]"):
        assert " is unknown; expected one of " in line.problem(word)
    for name in ("logger", "callbacks", "plugins", "barebones", "enable_x"):
        assert line.problem(f"+trainer.{name}=true").startswith(f"trainer.{name} ")
    assert "'lr=[1' can't be parsed; close each bracket and quote, or quote" in line.problem(
        "lr=[1"
    )
    assert "as a string: 'x=\"a=b\"'." in line.problem("x=a=b")


def test_wrong_names_are_reported_together_before_values(line: CommandLine) -> None:
    problems = line.problems("modle=gru", "trainer.epoch=3", "model=foo", "lr", "seed=-1")
    named = [problem.split(" ")[0] for problem in problems]
    assert named == ["'lr'", "model=foo", "modle", "trainer.epoch"]


def test_keys_are_added_only_to_free_mappings(line: CommandLine) -> None:
    run = line.run("+tags.fold=a", "+optimizer.foreach=true")
    assert (run.tags, run.optimizer["foreach"]) == ({"fold": "a"}, True)


def test_last_value_of_a_key_wins(line: CommandLine) -> None:
    """So a suggestion can be appended to the command that it is for."""
    words = ["model=lstm", "optimizer.lr=0.1", "callbacks=ema", "seed=1", "tags={a: b}"]
    later = ["model=mlp", "optimizer.lr=0.2", "callbacks=early_stopping", "tags={c: d}"]
    run = line.run(*words, *later)
    assert run.model["_target_"] == "pipeline.networks.mlp.MLP"
    assert (run.optimizer["lr"], run.seed, run.tags) == (0.2, 1, {"c": "d"})
    assert run.callbacks.keys() == {"early_stopping"}
    assert run.name == "mlp-mnist1d-seed1-lr0.2-early_stopping"


def test_text_value_stays_unchanged(line: CommandLine) -> None:
    for text in ("12e45678", "012", "1_000", "true"):
        run = line.run(f"resume={text}", f"name={text}", f"tracking.experiment={text}")
        assert (run.resume, run.name, run.tracking.experiment) == (text, text, text)
    places = ("结果", "a b", "a,b", "a=b", "#1", "100%", "[x]", "ü'", 'q"q', "x")
    for output, resume in zip(places[::2], places[1::2], strict=True):
        run = line.run(f"output={output}", f"resume={resume}")
        assert (run.output, run.resume) == (output, resume)
    run = line.run("tags=[数据,b]", "resume=null")
    assert (run.tags, run.resume) == (["数据", "b"], None)


def test_password_on_command_line_is_refused_unseen(line: CommandLine) -> None:
    """The message does not repeat it."""
    for word in ("tracking.uri=http://me:canary@host:1", "tags={a: 'postgresql://me:canary@host'}"):
        key = word.partition("=")[0]
        assert line.problem(word).startswith(f"{key} holds a URL with a password")
        assert "canary" not in line.err + line.out


TABLE = "data=table data.target=x data.path="
LONG = "data=iris data.scale=minmax loss.class_weights=balanced seed=7"
# A model brings its own data. What is the default of a data set or an experiment is no part of the
# name: `diabetes` is standardized, and `fcn` has another learning rate.
NAMES = f"""
model=gru data=digits → gru-digits
model.hidden=[] → mlp-mnist1d-hidden-none
name=mine → mine
model=cnn2d → cnn2d-digits
optimizer.lr=0.1 verbose=0 +tags.a=b output=x trainer=cpu → mlp-mnist1d-lr0.1
optimizer=sgd seed=1 scheduler=none → mlp-mnist1d-sgd-seed1-scheduler-none
trainer.max_steps=-2 model.hidden=[64,32] → mlp-mnist1d-max_steps-2-hidden64-32
trainer.max_epochs=20 optimizer=adam optimizer.lr=1e-2 seed=0 → mlp-mnist1d
trainer=cpu trainer.max_epochs=20 model.hidden=[64,128,64] data.batch_size=32 → mlp-mnist1d
optimizer=sgd optimizer.lr=0.01 scheduler=cosine → mlp-mnist1d-sgd-lr0.01
data=diabetes data.scale=none → mlp-diabetes-scale-none
experiment=mnist1d_gru → gru-mnist1d-mnist1d_gru
experiment=mnist1d_gru seed=7 optimizer.lr=0.1 → gru-mnist1d-mnist1d_gru-seed7-lr0.1
experiment=fcn optimizer.lr=0.01 → cnn1d-mnist1d-fcn-lr0.01
{TABLE}patients.csv optimizer.lr=0.1 → mlp-patients-lr0.1
{TABLE}a/b.c/patients.v1.csv.gz → mlp-patients.v1
{TABLE}a/b.c/patients.v2.csv → mlp-patients.v2
{TABLE}ward#1.csv → mlp-ward-1
{TABLE}https://me.org/wards.csv?token=canary → mlp-wards
{TABLE}数据.csv → mlp-table-7b3d
{TABLE}{"x" * 99}.csv seed=7 → mlp-{"x" * 60}
{LONG} trainer.max_epochs=1000 → mlp-iris-scale-minmax-class_weights-balanced-seed7
"""


@pytest.mark.parametrize(("words", "name"), cases(NAMES))
def test_run_name_holds_model_data_and_overrides(words: str, name: str) -> None:
    assert compose(words.split()).name == name


def test_choice_names_are_plain_yaml_strings() -> None:
    """Each file begins with a comment that says what it is."""
    files = [path for path in CONF.rglob("*.yaml") if "/hydra/" not in str(path)]
    choices = {path.stem.lower() for path in files}
    assert not choices & {"on", "off", "yes", "no", "true", "false", "null", "y", "n"}
    assert not [path for path in files if not path.read_text(encoding="utf-8").startswith("#")]


#: Aliases of aliases, which would stand for nine to the power of eight texts.
BOMB = "a0: &a0 [x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("seed: 1\nseed: 2\n", ":2: duplicate key 'seed'; keep one."),
        ("data:\n\tseed: 2\n", ":2 is not valid YAML: a tab; indent with spaces."),
        (b"seed: 1\nname: \xe9\n", ":2 is not UTF-8; save the file as UTF-8."),
        ("", ":1 is empty; expected keys and values, or {} for none."),
        ("- seed\n", ":1 is not a mapping; expected KEY: VALUE lines."),
        (BOMB, ":2 has an alias (*a0); write it out."),
        ("seed: [1\n", " is not valid YAML: "),
        ("tags: " + "[" * 3000 + "]" * 3000, ":1 is nested deeper than 20 levels; flatten it."),
        ("a:\n" + "".join(f"{' ' * n}- \n" for n in range(1, 99)), " is nested deeper than 20 "),
        (
            "name: !!python/object/apply:os.getcwd []\n",
            ":1 is not valid YAML: could not determine a ",
        ),
        (f"name: x\nseed: {'9' * 6000}\n", ":2 has a number or date that can't be read; correct "),
        (f"seed: 0x{'9' * 6000}\n", ":1 has a number or date that can't be read; correct "),
        ("name: 2001-99-99\n", ":1 has a number or date that can't be read; correct it, or quote "),
        ("test: !!bool maybe\n", ":1 has a number or date that can't be read; correct it, or "),
        ("name: x\nmonitor: a\0b\n", ":2 is not valid YAML: special characters are not allowed."),
        ("#" * (2**20 + 1), " is larger than 1 MiB; expected a configuration file."),
    ],
)
def test_unreadable_file_is_named_with_its_line(
    line: CommandLine, tmp_path: Path, content: str | bytes, says: str
) -> None:
    words = written(tmp_path / "conf", {EXPERIMENT: content})
    problem = line.problem(*words, "experiment=mine")
    assert problem.startswith(str(tmp_path / "conf" / EXPERIMENT))
    assert says in problem


def test_unused_config_files_are_checked_too(line: CommandLine, tmp_path: Path) -> None:
    deep = "tags: " + "[" * 3000 + "]" * 3000
    words = written(tmp_path / "conf", {EXPERIMENT: GOOD, "model/unused.yaml": deep})
    problem = line.problem(*words, "experiment=mine")
    assert problem.startswith(f"{tmp_path / 'conf' / 'model' / 'unused.yaml'}:1 is nested deeper")
    words = written(tmp_path / "two", {EXPERIMENT: "", "model/mine.yaml": "- a\n"})
    assert len(line.problems(*words)) == 2
    text = "# @package _global_\ncallbacks: {mine: {_target_: my.Net, a: " + "[" * 17 + "]" * 17
    words = written(tmp_path / "three", {EXPERIMENT: text + "}}\n"})  # as deep as it may be
    assert "callbacks.mine._target_='my.Net'" in line.problem(*words, "experiment=mine")


def test_unrelated_yaml_is_ignored(line: CommandLine, tmp_path: Path) -> None:
    words = written(tmp_path, {EXPERIMENT: GOOD, "docker/compose.yaml": "a: &a 1\nb: *a\n"})
    assert line.run(*words, "experiment=mine").seed == 3


def test_unknown_key_in_user_file_is_named(line: CommandLine, tmp_path: Path) -> None:
    text = "# @package _global_\ntrainer:\n  epochs: 3\nsede: 3\n"
    words = written(tmp_path / "conf", {EXPERIMENT: text})
    assert line.problems(*words, "experiment=mine") == [
        "trainer.epochs is unknown. Did you mean 'trainer.max_epochs'?",
        "sede is unknown. Did you mean 'seed'?",
    ]


def test_run_ignores_the_study_of_its_experiment(line: CommandLine, tmp_path: Path) -> None:
    text = f"{GOOD}sweep: {{n_trials: 3}}\n"
    words = (*written(tmp_path / "conf", {EXPERIMENT: text}), "experiment=mine")
    assert line.run(*words).seed == 3
    assert line.problem(*words, "sweep.n_trials=4").startswith("sweep.n_trials is unknown.")


def test_user_config_folder_may_have_any_name(line: CommandLine, tmp_path: Path) -> None:
    words = written(tmp_path / "a b/结果/a,b=c/#[x]/it's", {EXPERIMENT: GOOD})
    assert line.run(*words, "experiment=mine").seed == 3


def test_compose_reports_wrong_names_and_clears_hydra() -> None:
    assert len(refusal(compose, ["modle=gru", "trainer.epoch=3"]).splitlines()) == 2
    assert compose(["model=gru"]) == compose(["model=gru"])
    assert not GlobalHydra.instance().is_initialized()
