"""What the doctor says of sick runs, of the same runs cured, and of healthy ones.

    python -m benchmarks.doctor_cases [--seeds 3] [--sets A B C D healthy] [--only VERDICT …]
                                      [--keep FOLDER]

The runs stand in doctor_cases.yaml. A sick run has to be told its verdict and a cured one must not;
a healthy one has to be told nothing. `--keep` leaves the runs in a folder, and takes those that lie
there already: the doctor is asked again, and nothing is trained.
"""

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml  # type: ignore[import-untyped] # PyYAML brings no types

from benchmarks.doctor_tables import write_tables

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from pipeline.base.findings import Findings

SETS = ("A", "B", "C", "D", "healthy")
QUIET = ("tracking=none", "verbose=0")
HEALTHY_SEEDS = 5


@dataclass(frozen=True)
class Asked:
    """A run that the doctor is asked about.

    Args:
        name: Of the case.
        of: Its set.
        state: Whether it is sick, cured or healthy.
        verdict: What is said of the sick run, and must not be of the cured one.
        words: Its overrides.
        right: What is right to say of a healthy run.
        tested: A test runs it as well.
    """

    name: str
    of: str
    state: Literal["sick", "cured", "healthy"]
    verdict: str
    words: tuple[str, ...]
    right: str = ""
    tested: bool = False

    def is_wrong(self, names: str) -> bool:
        """Tell whether these verdicts are not what had to be said."""
        said = names.split(", ")
        if self.state == "healthy":
            return names != (self.right or "healthy")
        return (self.verdict in said) != (self.state == "sick")

    @property
    def expected(self) -> str:
        """What had to be said, in words."""
        if self.state == "healthy":
            return self.right or "healthy"
        return self.verdict if self.state == "sick" else f"not {self.verdict}"


def merged(words: Sequence[str], others: Sequence[str]) -> tuple[str, ...]:
    """Return overrides of which the later ones take the place of the earlier."""
    values = dict(word.split("=", 1) for word in (*words, *others))
    return tuple(f"{key}={value}" for key, value in values.items())


def asked(sets: Sequence[str] = SETS, only: Sequence[str] = ()) -> Iterator[Asked]:
    """Return the runs of these sets, those of some verdicts alone where there are any."""
    text = Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")
    cases: dict[str, list[dict[str, Any]]] = yaml.safe_load(text)
    for case in cases["sick"]:
        if case["set"] in sets and (not only or case["verdict"] in only):
            yield from _sick_and_cured(case)
    for case in cases["healthy"] if "healthy" in sets and not only else ():
        words, right = tuple(case["words"].split()), case.get("right", "")
        tested = "tested" in case
        yield Asked(case["name"], "healthy", "healthy", "", words, right=right, tested=tested)


def _sick_and_cured(case: dict[str, Any]) -> Iterator[Asked]:
    sick, tested = case["sick"].split(), case.get("tested")
    given = (case["name"], case["set"])
    yield Asked(*given, "sick", case["verdict"], merged(sick, ()), tested=bool(tested))
    if "cure" in case:
        cured = merged(sick, case["cure"].split())
        yield Asked(*given, "cured", case["verdict"], cured, tested=tested is True)


def findings_of(words: Sequence[str], *, seed: int, folder: Path) -> "Findings":
    """Train a run with this seed, or take the one of the same configuration in the folder.

    Args:
        words: Its overrides; the tables that they name lie in the present folder.
        seed: Of the run.
        folder: Takes the run's artifacts.
    """
    import sklearn.linear_model  # noqa: F401 - no run then starts a process to import it

    from pipeline.base.errors import DivergedError
    from pipeline.base.findings import load_findings
    from pipeline.config.plain import plain
    from pipeline.run import run

    output = folder / "new"
    config = _composed((*words, *QUIET, f"output={output}")).copy()
    config.seed = seed
    content = json.dumps(plain(config), sort_keys=True, default=str)
    kept = folder / hashlib.sha256(content.encode()).hexdigest()[:16]
    if not kept.exists():
        shutil.rmtree(output, ignore_errors=True)
        with contextlib.suppress(DivergedError):
            run(config)
        (made,) = output.iterdir()
        (made / "artifacts").rename(kept)
    return load_findings(kept)


def said_of(one: Asked, *, seed: int, folder: Path) -> str:
    """Return the names of the verdicts on a run with this seed."""
    from pipeline.doctor.diagnosis import diagnose

    return diagnose(findings_of(one.words, seed=seed, folder=folder)).names


@cache
def _composed(words: tuple[str, ...]) -> "DictConfig":
    from pipeline.config.compose import compose

    return compose(words)


def main() -> None:
    """Print a line a run: its set, what had to be said, and what was said with each seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", nargs="*", choices=SETS, default=SETS)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--keep", type=Path, default=None)
    arguments = parser.parse_args()
    wrong = total = 0
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(arguments.keep or folder):
        write_tables(Path())
        for one in asked(arguments.sets, arguments.only):
            seeds = range(HEALTHY_SEEDS if one.state == "healthy" else arguments.seeds)
            said = [said_of(one, seed=seed, folder=Path()) for seed in seeds]
            missed = sum(map(one.is_wrong, said))
            wrong, total = wrong + missed, total + len(said)
            mark = f"{missed} wrong" if missed else ""
            head = f"{one.of:7} {one.state:7} {one.name:34} {one.expected:26} {mark:7}"
            print(f"{head}  {' | '.join(said)}", flush=True)
    print(f"{wrong} of {total} runs were not told what they had to be")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["PIPELINE_PICTURES"] = "0"
    main()
