"""A study's own run in MLflow, under which its trials fold. Nothing here imports MLflow."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock

from pipeline.config.compose import LONGEST_NAME
from pipeline.config.options import SweepOptions
from pipeline.config.record import flatten
from pipeline.errors import EnvironmentFaultError
from pipeline.paths import create_folder
from pipeline.study.recording.scribe import Scribe
from pipeline.tracking.books import STUDY_TAG, TRIAL_TAG
from pipeline.tracking.facts import environment_tags
from pipeline.tracking.figure import Figure
from pipeline.tracking.find import COMMAND_TAG
from pipeline.tracking.journal import Header, Journal, Scalar, Status
from pipeline.tracking.note import TAG as NOTE_TAG

LOCK = ".study.lock"
UNDECIDED = ("running", "waiting")


class Leadership:
    """The right to write a study's own run, which one driver has at a time.

    It ends with the process that has it, however that ends.

    Args:
        folder: The study's folder; it may not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = filelock.FileLock(folder / LOCK)

    @property
    def is_held(self) -> bool:
        """Whether this driver has it."""
        return self._lock.is_locked

    def try_acquire(self) -> bool:
        """Take it if nobody has it; tell whether this driver has it now.

        Raises:
            EnvironmentFaultError: The folder can't be written.
        """
        if self.is_held:
            return True
        try:
            create_folder(self._folder)
            self._lock.acquire(blocking=False)
        except filelock.Timeout:
            return False
        except OSError as error:
            raise EnvironmentFaultError(
                f"the study's folder {str(self._folder)!r} can't be written ({error.strerror}); "
                "choose another with output=FOLDER"
            ) from error
        return True

    def release(self) -> None:
        """Let another driver have it."""
        self._lock.release()


class StudyRun:
    """The study's run, written by the driver that leads.

    Args:
        folder: The study's folder; it exists.
        scribe: Brings it into MLflow.
        name: Name of the study.
        uid: Tells it from an earlier one of its name.
    """

    def __init__(self, folder: Path, scribe: Scribe, *, name: str, uid: str) -> None:
        self._folder = folder
        self._scribe = scribe
        self._name = name
        self._uid = uid
        self._journal = Journal(folder)
        self._values: dict[str, float] = {}
        self._tags: dict[str, str] = {}
        self._best_step = -1
        self._count_step = 0

    def begin(
        self,
        *,
        uri: str | None,
        experiment: str,
        params: Mapping[str, Scalar],
        register: str | None = None,
        trust: Sequence[str] = (),
    ) -> None:
        """Begin the run, or go on with it.

        Args:
            uri: Where it is tracked; `None` = nowhere.
            experiment: Name of the MLflow experiment.
            params: Of `study_params`.
            register: Name under which the winner's model is registered; `None` = it is not.
            trust: Packages whose classes that model may name.
        """
        self._remember()
        tags = {**environment_tags(), COMMAND_TAG: "sweep", STUDY_TAG: self._uid}
        self._journal.begin(
            Header(
                name=self._name,
                experiment=experiment,
                uri=uri or "",
                params=params,
                tags={**tags, "study": self._name},
                key=study_key(self._name, self._uid),
                register=register,
                trust=trust,
            )
        )
        self._scribe.follow(self._folder)

    def best(self, values: Mapping[str, float], number: int, params: Mapping[str, object]) -> None:
        """Record what is best by now.

        MLflow shows the value of the highest step, so a better trial of a lower number than the
        best one before it gets the next step.

        Args:
            values: The best value of each objective.
            number: Of the trial that is best.
            params: What was varied, as that trial has it.
        """
        found = {f"best/{name}": float(value) for name, value in values.items()}
        if any(self._values.get(key) != value for key, value in found.items()):
            self._best_step = max(number, self._best_step + 1)
            self._journal.epoch(self._best_step, found)
            self._values |= found
        gone = {key: "" for key in self._tags if key.startswith("best.")}
        tags = {f"best.{key}": str(value) for key, value in params.items()}
        self._tag({**gone, **tags, "best.trial": str(number)})

    def counts(self, counts: Mapping[str, int]) -> None:
        """Record how many trials have ended, by how they did, as `trials/complete` and others.

        Args:
            counts: Those that run or wait are left out.
        """
        ends = {key: n for key, n in counts.items() if key not in UNDECIDED}
        if sum(ends.values()) > self._count_step:
            self._count_step = sum(ends.values())
            values = {f"trials/{key}": float(n) for key, n in ends.items()}
            self._journal.epoch(self._count_step, values)

    def left(self, figure: Figure) -> None:
        """Record that the folder holds the winner's model by now."""
        self._journal.model(figure)

    def describe(self, note: str) -> None:
        """Record what MLflow's page shows as the description, in Markdown."""
        self._tag({NOTE_TAG: note})

    def end(self, status: Status, reason: str | None = None) -> None:
        """End the run: FINISHED, KILLED interrupted or FAILED; waits until that has been sent.

        Another driver may lead as soon as this has returned.
        """
        self._journal.end(status, reason)
        self._journal.close()
        self._scribe.leave(self._folder)

    def _tag(self, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            if self._tags.get(key) != value:
                self._journal.tag(key, value)
                self._tags[key] = value

    def _remember(self) -> None:
        """Take up what earlier drivers have recorded, so that nothing is recorded twice."""
        for event in self._journal.events():
            if event["event"] == "tag":
                self._tags[event["key"]] = event["value"]
            elif event["event"] == "epoch":
                self._values |= event["values"]
                kinds = {key.partition("/")[0] for key in event["values"]}
                if "best" in kinds:
                    self._best_step = max(self._best_step, event["epoch"])
                if "trials" in kinds:
                    self._count_step = max(self._count_step, event["epoch"])


def study_params(options: SweepOptions, base: Mapping[str, Any]) -> dict[str, Scalar]:
    """Return what a study is, and the run that it varies, as parameters of its run."""
    return flatten({**base, "sweep": options.model_dump()})


def study_key(name: str, uid: str) -> str:
    """Return the key of a study's own run."""
    return f"{name}-{uid}"


def trial_key(name: str, uid: str, number: int) -> str:
    """Return the key of a trial's run."""
    return f"{name}-{uid}-{number}"


def trial_name(name: str, number: int) -> str:
    """Return the name of a trial's run, within the letters that a name may have."""
    return f"{name[:LONGEST_NAME]}-{number}"


def trial_tags(name: str, uid: str, number: int) -> dict[str, str]:
    """Return the tags that say which trial a run is."""
    return {
        COMMAND_TAG: "trial",
        STUDY_TAG: uid,
        TRIAL_TAG: str(number),
        "study": name,
    }
