"""MLflow, as this program uses it: a few calls that may be repeated, and errors in one line."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from mlflow.entities import Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from pipeline.tracking.batch import Point
from pipeline.tracking.books import END_TAG, STUDY_TAG
from pipeline.tracking.database import prepare_database
from pipeline.tracking.experiments import create_private, experiment_id, local_files
from pipeline.tracking.faults import StoreError, fault, refusal
from pipeline.tracking.fields import field_name, param_texts, tag_texts
from pipeline.tracking.journal import Status

FOLDER_TAG = "pipeline.folder"
LOCK_SECONDS = 60.0

_Item = TypeVar("_Item")


class Store:
    """A tracking server or database. Every call raises `StoreError` alone.

    Args:
        uri: Its address, absolute.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._experiments: dict[str, str] = {}
        self._with_folder: set[str] = set()
        self._client = self._patiently(self._connect)

    def experiment(self, name: str) -> str:
        """Return the id of an experiment, created where it is missing; never MLflow's own 0."""
        if name not in self._experiments:
            found = self._patiently(lambda: experiment_id(self._client, self.uri, name))
            self._experiments[name] = found
        return self._experiments[name]

    def create(
        self, experiment_id: str, *, name: str, key: str, tags: Mapping[str, str], start: int
    ) -> tuple[str, bool]:
        """Return the id of the run with a key, created where there is none, and whether it was.

        Args:
            experiment_id: Where it belongs.
            name: What MLflow shows.
            key: Name that no other run has; of its folder, say.
            tags: Tags that it has from its first moment.
            start: Milliseconds since 1970.
        """
        with self._translated():
            found = self._find_run(experiment_id, key)
            if found is not None:
                return found, False
            marked = {**tag_texts(tags), FOLDER_TAG: key}
            run = self._client.create_run(
                experiment_id, start_time=start, tags=marked, run_name=name
            )
            return str(run.info.run_id), True

    def run(self, run_id: str) -> Run | None:
        """Return a run, or `None` where the store has never had it."""
        try:
            return self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise fault(self.uri, str(error)) from error

    def running(self) -> list[Run]:
        """Return all runs of all experiments that have not ended."""
        return self._found("attributes.status = 'RUNNING'")

    def of_study(self, uid: str) -> list[Run]:
        """Return a study's own run and those of its trials, in whatever experiment."""
        if not uid.isalnum():  # a name must not become a filter of its own
            return []
        return self._found(f"tags.`{STUDY_TAG}` = '{uid}'")

    def beginning(self, run_id: str) -> list[Run]:
        """Return the runs whose ids begin so."""
        return self._found(f"attributes.run_id LIKE '{run_id}%'") if run_id.isalnum() else []

    def _found(self, condition: str) -> list[Run]:
        with self._translated():
            pages = self._client.search_experiments(view_type=ViewType.ACTIVE_ONLY)
            ids = [experiment.experiment_id for experiment in pages]
            found: list[Run] = []
            token = None
            while True:
                page = self._client.search_runs(ids, condition, max_results=1000, page_token=token)
                found += page
                token = page.token
                if not token:
                    return found

    def delete(self, run_id: str) -> None:
        """Mark a run as deleted, as MLflow's pages do; `mlflow gc` removes it for good."""
        run = self.run(run_id)
        if run is not None and run.info.lifecycle_stage == "active":
            with self._translated():
                self._client.delete_run(run_id)

    def files_of(self, run_id: str) -> Path | None:
        """Return the folder of a run's artifacts where they lie beside this database."""
        run = self.run(run_id)
        return None if run is None else local_files(self.uri, run_id, run.info.artifact_uri)

    def reopen(self, run_id: str) -> None:
        """Make a run RUNNING again, with no reason of an earlier end."""
        with self._translated():
            self._client.update_run(run_id, status="RUNNING")
        self._drop_tag(run_id, END_TAG)

    def log(
        self,
        run_id: str,
        *,
        points: Sequence[Point] = (),
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
        is_new: bool = False,
    ) -> None:
        """Log values in one call; what the run holds already is neither stored twice nor refused.

        Args:
            run_id: The run.
            points: Values of metrics.
            params: Parameters, of which those that it has stay as they are.
            tags: Tags.
            is_new: It has been created just now, so it has no parameters yet.
        """
        if not (points or params or tags):
            return
        with self._translated():
            self._client.log_batch(
                run_id,
                metrics=[
                    Metric(field_name(key), value, at, epoch) for key, value, at, epoch in points
                ],
                params=self._new_params(run_id, params or {}, is_new=is_new),
                tags=[RunTag(key, value) for key, value in tag_texts(tags or {}).items()],
            )

    def upload(self, run_id: str, file: Path, folder: str) -> None:
        """Store a file as an artifact, in a folder of the run's artifacts ('' = the top)."""
        with self._translated():
            if run_id not in self._with_folder:
                create_private(self._client.get_run(run_id).info.artifact_uri)
                self._with_folder.add(run_id)
            self._client.log_artifact(run_id, str(file), folder or None)

    def terminate(self, run_id: str, status: Status, *, reason: str | None, end: int) -> None:
        """Set a run's final status and its `end_reason`, at `end` milliseconds since 1970.

        Args:
            run_id: The run.
            status: MLflow's word for how it ended.
            reason: Why it ended early; `None` where it did not, whatever it was closed as before.
            end: When it ended.
        """
        if reason is None:
            self._drop_tag(run_id, END_TAG)
        else:
            self.log(run_id, tags={END_TAG: reason})
        with self._translated():
            self._client.set_terminated(run_id, status=status, end_time=end)

    @contextmanager
    def client(self) -> Iterator[MlflowClient]:
        """Lend MLflow's own client; what it raises becomes a `StoreError`."""
        with self._translated():
            yield self._client

    def _connect(self) -> MlflowClient:
        with prepare_database(self.uri):
            return MlflowClient(self.uri)

    def _find_run(self, experiment_id: str, key: str) -> str | None:
        if "'" in key or "\\" in key:  # a name must not become a filter of its own
            return None
        found = self._client.search_runs([experiment_id], f"tags.`{FOLDER_TAG}` = '{key}'")
        return str(found[0].info.run_id) if found else None

    def _new_params(
        self, run_id: str, params: Mapping[str, object], *, is_new: bool
    ) -> list[Param]:
        """Return params that the run lacks; MLflow refuses a whole batch over one that differs."""
        needs_look = bool(params) and not is_new
        known = self._client.get_run(run_id).data.params if needs_look else {}
        return [Param(key, text) for key, text in param_texts(params).items() if key not in known]

    def _drop_tag(self, run_id: str, key: str) -> None:
        run = self.run(run_id)
        if run is not None and key in run.data.tags:
            with self._translated():
                self._client.delete_tag(run_id, key)

    def _patiently(self, call: Callable[[], _Item]) -> _Item:
        """Repeat a call for a minute while another program holds the database's lock."""
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                with self._translated():
                    return call()
            except StoreError as error:
                if error.kind != "locked" or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except StoreError:
            raise
        except MlflowException as error:
            raise refusal(self.uri, str(error.error_code), str(error.message)) from error
        except Exception as error:
            # What lies under MLflow (SQLAlchemy, requests, botocore, OSError) has no common class.
            raise fault(self.uri, str(error)) from error
