"""Random command lines, tables, new rows and folders: a command ends as it should.

    python -m benchmarks.fuzz [--minutes 10] [--seed 0] [--only KIND]

`benchmarks/case.py` says when a case fails. One case in a hundred runs as a process of its own; the
others call the command in this process.
"""

import argparse
import contextlib
import csv
import io
import os
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from omegaconf import DictConfig

from benchmarks import hostile_folders
from benchmarks.case import CHECKS, Case, called, empty_folder, ended

EACH_ROUND = 50
"""Cases of one kind before the next kind has its turn."""
ONE_PROCESS_IN = 100
QUICK = ("model=mlp", "data=iris", "trainer.max_epochs=1", "tracking=none", "verbose=0")

# What a case consists of.

ODD = (
    "", "null", "true", "False", "nan", "-inf", "1e400", "1e-400", "-0", "0x1f", "1_0", "12e45678",
    "[]", "{}", "[[]]", "[" * 60, "[" * 300 + "]" * 300, "{a: 1}", "{a: {b: [1, {c: 2}]}}", "[1,",
    "'", '"', "a'b", "\\", "a=b", "${seed}", "${nothing}", "${oc.env:HOME}", "${oc.decode:x}",
    "${seed", "$", "???", "1,2", "choice(1,2)", "range(0)", "interval(1,0)", "tag(x)", "glob(*)",
    "数据", "\udcff", "\x1b[31m", "a\nb", " ", "%s", "../x", "/", "~", "x" * 300, "x" * 6000,
    "off", "-1", "99999999999999999999", "1.7976931348623157e308", "[nan]", "[null]", "[-1,0]",
)  # fmt: skip
SMALL = (
    "-1", "0", "1", "2", "3", "0.0", "0.5", "1.0", "1.5", "1e-9", "nan", "inf", "null", "true",
    "false", "[]", "[1]", "[2,3]", "[0]", "[null]", "{}", "a", "none", "max", "norm", "auto",
    "val/loss", "val/f1", "last", "best", "[a]", "{a: 1}", "balanced", "minmax", "standard",
)  # fmt: skip
FLAGS = ("--help", "--info", "-m", "--hydra-help", "--resolve", "--colour", "-c", "--config-dir")
CELLS = (
    "", "0", "1", "-1", "2.5", "1e3", "1e308", "1e-300", "1e400", "nan", "NA", "inf", "-inf", "?",
    "yes", "no", "true", "ja", "a b", "é", "数据", "🌱", "€3.04", "1,5", "1;5", "12.03.2024",
    "2024-03-12", "0x1F", "1_000", "007", "=1+1", "@x", "-", "'", '"', "\t", "\n", "\r", "\ufeff",
    "x" * 2000, "99999999999999999999", "16777217", "1e20", "None",
)  # fmt: skip
NAMES = ("a", "b", "c", "y", "", "a", "é", "a b", "=x", "[x]", "a.b", "y\n", "Unnamed: 0", "1")
HEAVY = ("devices", "compile", "num_workers", "num_nodes", "threads", "fast_dev_run", "hydra")
"""Keys that start processes or compilers; they have tests of their own."""
APART = ("tracking", "output", "resume", "sweep", "register", "traceback")
"""What a case that really trains leaves as it is."""


def keys() -> dict[str, object]:
    """Return all keys and groups of a run, each with its default."""
    from omegaconf import OmegaConf

    from pipeline.config.compose import compose
    from pipeline.config.tree import dotted_keys

    tree = compose(["callbacks=early_stopping", "data=iris"])
    return {key: OmegaConf.select(tree, key) for key in sorted(dotted_keys(tree))}


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=()), max_size=12)
NUMBERS = st.one_of(st.integers(), st.floats()).map(str)


@st.composite
def overrides(draw: st.DrawFn) -> Case:
    """Return a command line that is looked at, and trains nothing, with any values."""
    names = st.sampled_from(tuple(KEYS)) | TEXTS
    values = st.sampled_from(ODD) | NUMBERS | TEXTS
    sign = st.sampled_from(("", "", "", "+", "++", "~"))
    words = st.one_of(
        st.tuples(sign, names, st.just("="), values).map("".join),
        st.tuples(st.sampled_from(GROUPS), st.just("="), values).map("".join),
        st.sampled_from(FLAGS),
        TEXTS,
    )
    command = draw(st.sampled_from(tuple(CHECKS)))
    return Case(command, tuple(draw(st.lists(words, min_size=1, max_size=4))))


@st.composite
def trained(draw: st.DrawFn) -> Case:
    """Return a command line that trains, unless its values, all of them small, are refused."""
    chance = draw(st.randoms(use_true_random=True))
    leaves = [key for key, value in KEYS.items() if _may_change(key, value)]
    words = {key: f"{key}={_like(chance, KEYS[key])}" for key in chance.sample(leaves, 2)}
    if chance.random() < 0.3:
        key = chance.choice(leaves)
        words[key] = f"{key}={chance.choice(SMALL)}"
    base = {word.partition("=")[0]: word for word in QUICK}
    base["scheduler"] = f"scheduler={chance.choice(('none', 'cosine', 'step', 'onecycle'))}"
    if not any(key.startswith("optimizer.") for key in words):
        base["optimizer"] = f"optimizer={chance.choice(('adam', 'sgd', 'rmsprop'))}"
    return Case("train", tuple({**base, **words}.values()))


def _may_change(key: str, value: object) -> bool:
    first, last = key.partition(".")[0], key.rpartition(".")[2]
    is_section = isinstance(value, DictConfig) or first in ("scheduler", "callbacks")
    return not (is_section or first in APART or last in (*HEAVY, "_target_"))


def _like(chance: Random, value: object) -> str:
    """Return a small value of the kind of another."""
    if isinstance(value, bool):
        return chance.choice(("true", "false"))
    if isinstance(value, int):
        return str(chance.choice((0, 1, 2, 3, 7)))
    if isinstance(value, float):
        return chance.choice(("0.0", "1e-9", "0.1", "0.5", "0.99", "1.0", "3"))
    return str(chance.choice(SMALL)) if value is None else str(value).replace(" ", "")


def table(draw: st.DrawFn, columns: Sequence[str]) -> bytes:
    """Return the bytes of a table: mostly whole, with some odd cells, rows, names and bytes."""
    chance = draw(st.randoms(use_true_random=True))
    rows = chance.choice((0, 1, 2, 8, 30, 40, 40, 40, 40))
    cells = [[_plain(chance, name) for name in columns] for _ in range(rows)]
    names = list(columns)
    if rows and chance.random() < 0.5:
        for _ in range(chance.randint(1, 3)):
            odd = chance.choice(CELLS) if chance.random() < 0.8 else draw(TEXTS)
            chance.choice(cells)[chance.randrange(len(names))] = odd
    if rows and chance.random() < 0.1:
        cells[chance.randrange(rows)] = chance.choices(CELLS, k=chance.randint(0, 6))
    if chance.random() < 0.15:
        names[chance.randrange(len(names))] = chance.choice(NAMES)
    return _bytes_of(chance, [names, *cells])


def _plain(chance: Random, name: str) -> str:
    if name == "kind":
        return chance.choice(("red", "green"))
    return chance.choice(("yes", "no")) if name == "y" else f"{chance.gauss(0, 1):.3f}"


def _bytes_of(chance: Random, cells: list[list[str]]) -> bytes:
    text = io.StringIO()
    sep, end = chance.choice(",,,,;\t|"), chance.choice(("\n", "\n", "\n", "\r\n", "\r"))
    csv.writer(text, delimiter=sep, lineterminator=end).writerows(cells)
    encoding = chance.choice(("utf-8",) * 8 + ("utf-8-sig", "latin-1", "utf-16"))
    content = text.getvalue().encode(encoding, errors="replace")
    place = chance.randint(0, len(content))
    harm = chance.choice(("none",) * 16 + ("cut", "noise", "nothing", "quote"))
    noise = chance.randbytes(chance.randint(1, 8))
    return {
        "none": content,
        "cut": content[:place],
        "noise": content[:place] + noise + content[place:],
        "nothing": b"",
        "quote": content + b'"',
    }[harm]


def _some(chance: Random, words: Sequence[str]) -> list[str]:
    """Return at most two words with different keys, often none."""
    chosen = chance.sample(words, chance.choice((0, 0, 1, 1, 2)))
    return list({word.partition("=")[0]: word for word in chosen}.values())


@st.composite
def table_files(draw: st.DrawFn) -> Case:
    """Return a run on a table of one's own."""
    chance = draw(st.randoms(use_true_random=True))
    columns = chance.choice((("a", "b", "y"), ("a", "kind", "y"), ("a", "b", "c")))
    more = (
        f"data.target={columns[-1]}", "data.target=a", "data.target=nothing", "data.id=a",
        "data.task=regression", "data.task=binary", "data.missing=drop", "data.missing=refuse",
        "data.group=a", "data.time=a", f"data.split={columns[1]}", "data.numeric=[a]",
        "data.categorical=[a]", "data.drop=[a]", "data.strict=true", "data.positive=yes",
        "data.folds=2", "data.test=0.5", "data.validation=0", "data.stratify=false",
        "data.memory_budget=1", "data.scale=minmax", "loss.class_weights=balanced",
        "metrics.threshold=best_f1",
    )  # fmt: skip
    name = chance.choice(("new.csv",) * 8 + ("new.txt", "new.parquet"))
    quick = [word for word in QUICK if word != "data=iris"]
    words = (*quick, "data=table", f"data.path={name}", *_some(chance, more))
    return Case("train", words, {name: table(draw, columns)})


@st.composite
def new_rows(draw: st.DrawFn) -> Case:
    """Return a prediction for new rows by a model that was trained on `a`, `kind` and `y`."""
    chance = draw(st.randoms(use_true_random=True))
    columns = chance.choice((("a", "kind"),) * 6 + (("a", "kind", "y"), ("kind", "a"), ("a",)))
    more = (
        "output=out.csv", "output=out.parquet", "output=in.csv", "output=no/out.csv", "output=out",
        "unknown=refuse", "missing=impute", "id=a", "id=kind", "id=nothing", "overwrite=true",
        "verbose=1", "verbose=2",
    )  # fmt: skip
    name = chance.choice(("in.csv",) * 8 + ("in.txt", "in.parquet", "in.npy"))
    words = (f"model_from={MODEL}", f"input={name}", "tracking=none", *_some(chance, more))
    return Case("predict", words, {name: table(draw, columns)})


# Many cases.


@dataclass
class Tally:
    """What came of many cases.

    Args:
        ends: Number of cases of each kind with each exit code.
        failures: Case and problems of each that failed.
    """

    ends: dict[str, Counter[int | str]] = field(default_factory=lambda: defaultdict(Counter))
    failures: list[str] = field(default_factory=list)

    def add(self, kind: str, case: Case) -> None:
        """Run a case and note how it ended."""
        number = self.ends[kind].total() + 1
        is_process = case.command not in CHECKS and number % ONE_PROCESS_IN == 0
        code, problems = ended(case, as_process=is_process)
        self.ends[kind][code] += 1
        self.failures += [f"{case}\n  {problem}" for problem in problems]


KINDS: dict[str, Callable[[], st.SearchStrategy[Case]]] = {
    "overrides": overrides,
    "runs": trained,
    "tables": table_files,
    "predictions": new_rows,
    "folders": hostile_folders.folder_cases,
}
KEYS: dict[str, object] = {}
GROUPS = ("model", "data", "optimizer", "scheduler", "trainer", "callbacks", "metrics",
          "experiment", "debug", "tracking", "sweeps")  # fmt: skip
MODEL = Path()


@contextlib.contextmanager
def prepared() -> Iterator[None]:
    """Give the keys of a run, and a model that was trained on a table, for all that follows."""
    global MODEL  # noqa: PLW0603 - one model for all cases
    before = dict(os.environ)
    os.environ.update(
        OMP_NUM_THREADS="1", PIPELINE_PICTURES="0", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0"
    )
    KEYS.update(keys())
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        os.environ["PIPELINE_STATE"] = f"{folder}/state"
        with empty_folder() as place:
            rows = [f"{n % 7},{'red' if n % 3 else 'green'},{'no' if n % 7 < 3 else 'yes'}"
                    for n in range(60)]  # fmt: skip
            (place / "old.csv").write_text("a,kind,y\n" + "\n".join(rows) + "\n")
            words = ("model=mlp", "data=table", "data.path=old.csv", "data.target=y", *QUICK[2:])
            code, errors = called(Case("train", words))
            assert code == 0, errors
            (run,) = (place / "runs").iterdir()
            MODEL = Path(shutil.copytree(run, f"{folder}/run"))
            table = shutil.copy(place / "old.csv", folder)
        try:
            with hostile_folders.prepared(MODEL, Path(table)):
                yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def fuzz(kind: str, tally: Tally, *, number: int, cases: int) -> None:
    """Run many cases of a kind, the same ones for the same number."""

    @seed(number)
    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(KINDS[kind]())
    def run(case: Case) -> None:
        tally.add(kind, case)

    run()


def main() -> int:
    """Run cases of all kinds in turn until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(KINDS), default=None)
    asked = parser.parse_args()
    end, tally, number = time.monotonic() + 60 * asked.minutes, Tally(), asked.seed
    with prepared():
        while time.monotonic() < end:
            for kind in KINDS if asked.only is None else (asked.only,):
                told = len(tally.failures)
                fuzz(kind, tally, number=number, cases=EACH_ROUND)
                print(*tally.failures[told:], sep="\n", end="\n" * (told < len(tally.failures)))
            number += 1
    for kind, ends in tally.ends.items():
        codes = ", ".join(f"{number} with {code}" for code, number in ends.most_common())
        print(f"{kind}: {ends.total()} cases ended ({codes})")
    total = sum(ends.total() for ends in tally.ends.values())
    print(f"{total} cases, {len(tally.failures)} failures (seed {asked.seed})")
    return int(bool(tally.failures))


if __name__ == "__main__":
    sys.exit(main())
