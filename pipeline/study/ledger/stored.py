"""Studies that are on record, opened to be read, reaped or removed, and never created."""

from dataclasses import dataclass

from omegaconf import OmegaConf
from optuna import Study, delete_study
from optuna.trial import TrialState

from pipeline.config.options import SweepOptions
from pipeline.errors import ConfigError, EnvironmentFaultError, did_you_mean
from pipeline.paths import conf_folder
from pipeline.processes.lease import Lease, alive, is_local, working
from pipeline.study.ledger.founding import find_study
from pipeline.study.ledger.ledger import Ledger
from pipeline.study.ledger.marks import lease_of
from pipeline.study.ledger.objectives import Objective
from pipeline.study.ledger.parts import Parts
from pipeline.study.ledger.storage import open_storage, storage_url
from pipeline.study.ledger.storage_faults import named
from pipeline.study.ledger.store import Store
from pipeline.study.ledger.unvaried import Unvaried
from pipeline.tracking.uri import sqlite_path


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A study that is on record.

    Args:
        ledger: What is on record of its trials; nothing can be taken from it.
        objectives: What it is about.
        study: Optuna's study.
    """

    ledger: Ledger
    objectives: tuple[Objective, ...]
    study: Study

    @property
    def names(self) -> list[str]:
        """Names of what it is about."""
        return [objective.name for objective in self.objectives]

    def leases(self) -> list[Lease | None]:
        """Return the leases of the trials that run."""
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [lease_of(trial) for trial in running]

    def is_doubtful(self) -> bool:
        """Tell whether time alone can show of a running trial that it is lost."""
        leases = self.leases()
        return any(one is None or not (is_local(one) and working(one)) for one in leases)

    def is_live(self) -> bool:
        """Tell whether a process trains a trial of it, or may do so on another machine."""
        return any(lease is not None and alive(lease) for lease in self.leases())


class Studies:
    """The studies of one database.

    Args:
        storage: Optuna's URL of it; `None` = the default.

    Raises:
        EnvironmentFaultError: There is no such file, or it can't be read now.
        ConfigError: It is no database of studies.
    """

    def __init__(self, storage: str | None) -> None:
        self._url = storage_url(storage, key="storage")
        path = sqlite_path(self._url)
        if path is not None and not path.is_file():
            raise EnvironmentFaultError(
                f"{named(self._url)} is not there; expected the one that the sweep used: "
                "storage=sqlite:///FILE"
            )
        self._store = open_storage(self._url)

    def names(self) -> list[str]:
        """Return the names of those that a sweep has made."""
        found = self._store.work(self._store.storage.get_all_studies)
        return sorted(study.study_name for study in found if "uid" in study.user_attrs)

    def open(self, name: str, *, grace: float = 60.0) -> Recorded:
        """Open a study.

        Args:
            name: Its name.
            grace: Seconds without a sign of life after which a trial counts as lost.

        Raises:
            ConfigError: No sweep has made it.
        """
        names = self.names()
        if name not in names:
            raise ConfigError(
                f"study={name!r} is unknown in {named(self._url)}; there are "
                f"{', '.join(names) or 'none'}.{did_you_mean(name, names)}"
            )

        def opened() -> Recorded:
            study = find_study(self._store.storage, name)
            assert study is not None  # its name is there
            return _recorded(self._store, study, grace)

        return self._store.work(opened)

    def delete(self, name: str) -> None:
        """Remove a study with its trials for good."""
        storage = self._store.storage
        self._store.work(lambda: delete_study(study_name=name, storage=storage))

    def close(self) -> None:
        """Close the database."""
        self._store.close()


def _recorded(store: Store, study: Study, grace: float) -> Recorded:
    told = study.user_attrs.get("objectives", [])
    objectives = tuple(Objective(**stored) for stored in told)
    tree = OmegaConf.load(conf_folder() / "sweep.yaml")
    values = OmegaConf.to_container(tree.sweep)
    assert isinstance(values, dict)
    options = SweepOptions.model_validate({**values, "grace": grace})
    parts = Parts.of(study, Unvaried(), options, objectives, seed=0)
    return Recorded(ledger=Ledger(store, study, parts), objectives=objectives, study=study)
