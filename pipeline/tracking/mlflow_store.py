"""MLflow as this program uses it: a few calls that can be repeated, and one-line errors."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial, wraps
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname
from uuid import uuid4

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from pipeline.base.ends import Status
from pipeline.base.paths import create_folder
from pipeline.base.redaction import redact
from pipeline.tracking.database import prepare_database
from pipeline.tracking.fields import (
    END_TAG,
    FOLDER_TAG,
    STUDY_TAG,
    TRIAL_TAG,
    MlflowTrial,
    field_name,
    param_texts,
    tag_texts,
    view_tag,
)
from pipeline.tracking.uri import (
    ARTIFACTS,
    DATABASE,
    FOREIGN_ANSWER,
    StoreError,
    fault,
    is_server,
    missing_package,
    named,
    refusal,
    sqlite_path,
)

#: Tag of a run on a server: it identifies the batch that the server stored last.
BATCH_TAG = "pipeline.batch"
#: Id of the experiment that MLflow itself creates with its database.
FIRST_EXPERIMENT = "0"
#: Schemes of addresses to which MLflow sends a login, or that nothing encrypts.
SENT_LOGIN = ("http", "https", "ftp", "mlflow-artifacts")
#: Schemes of folders of this machine, of which a server chooses none.
LOCAL = ("", "file")
LOCK_SECONDS = 60.0
#: MLflow's error codes for an unknown name, id or version.
MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
#: Without this tag MLflow opens its pages for language models instead of the runs.
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development", **view_tag()}

#: Beginning of the addresses of artifacts that a tracking server stores itself.
SERVED_ARTIFACTS = "mlflow-artifacts:"
#: The id of the entity in an answer of a server, by the field of the answer that holds it.
IDENTITIES = {
    "experiment": "experiment.experiment_id",
    "experiment_id": "experiment_id",
    "model": "model.info.model_id",
    "model_version": "model_version.version",
    "registered_model": "registered_model.name",
    "run": "run.info.run_id",
    "run_info": "run_info.run_id",
}

#: Name, value, milliseconds since 1970, epoch.
Point = tuple[str, float, int, int]

_Item = TypeVar("_Item")


def require_identities(client: MlflowClient) -> None:
    """Let the client of a tracking server take an answer without the id of its entity for none.

    A proxy or a login page may answer any request with an empty object. MLflow has no public place
    that all answers pass through. With a version that has other private names, answers are taken as
    they are, and `tests/tracking/test_portal.py` fails.
    """
    with suppress(AttributeError):
        registry: Any = client._get_registry_client()  # type: ignore[no-untyped-call] # MLflow's
        stores: list[Any] = [client._tracking_client.store, registry.store]
        for store in stores:  # MLflow keeps one for each address
            if "_call_endpoint" not in vars(store):
                store._call_endpoint = _requiring_id(store._call_endpoint)


def _requiring_id(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a call of a server that raises MlflowException if its answer lacks an id."""

    @wraps(call)
    def call_and_require_id(*arguments: Any, **options: Any) -> Any:
        answer = call(*arguments, **options)
        for field, identity in IDENTITIES.items():
            if field in answer.DESCRIPTOR.fields_by_name and not attrgetter(identity)(answer):
                raise MlflowException(FOREIGN_ANSWER)
        return answer

    return call_and_require_id


class Store:
    """A tracking server or database at an address. Its methods raise no error but `StoreError`."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._experiments: dict[str, str] = {}
        self._with_folder: set[str] = set()
        self._client: MlflowClient | None = None
        self._with_retries(lambda client: client)

    def experiment(self, name: str) -> str:
        """Return the id of an experiment, created if it is missing; MLflow's own 0 is refused."""
        if name not in self._experiments:
            self._experiments[name] = self._with_retries(partial(self._experiment_id, name))
        return self._experiments[name]

    def create(
        self, experiment_id: str, *, name: str, key: str, tags: Mapping[str, str], start: int
    ) -> tuple[str, bool]:
        """Return the id of the run with a unique key, created if missing, and whether it is new.

        `start` is the time at which a new run starts, in milliseconds since 1970.
        """
        with self.client() as client:
            if "'" not in key and "\\" not in key:  # a name must not become a filter of its own
                condition = f"tags.`{FOLDER_TAG}` = '{key}'"
                runs = client.search_runs([experiment_id], condition)
                if runs:
                    return str(runs[0].info.run_id), False
            all_tags = {**tag_texts(tags), FOLDER_TAG: key}
            run = client.create_run(experiment_id, start, all_tags, run_name=name)
            return str(run.info.run_id), True

    def run(self, run_id: str) -> Run | None:
        """Return a run, or `None` if the store has never had it."""
        # A malformed id is an error rather than a missing run.
        return self.call_or_none(lambda client: client.get_run(run_id), missing=MISSING[:1])

    def running(self) -> list[Run]:
        """Return all runs of all experiments that have not ended."""
        return self._search("attributes.status = 'RUNNING'")

    def of_study(self, uid: str) -> list[Run]:
        """Return the run of a study and those of its trials, from all experiments."""
        if not uid.isalnum():  # a name must not become a filter of its own
            return []
        return self._search(f"tags.`{STUDY_TAG}` = '{uid}'")

    def trials_of(self, uid: str, metrics: Sequence[str]) -> list[MlflowTrial]:
        """Return the runs of a study's trials, with the latest values of some metrics."""
        trials = []
        for run in self.of_study(uid):
            number = run.data.tags.get(TRIAL_TAG, "")
            if not number.isdigit():  # it is the study's own run
                continue
            values = run.data.metrics
            trial = MlflowTrial(
                trial=int(number),
                run_id=run.info.run_id,
                status=run.info.status,
                end_reason=run.data.tags.get(END_TAG),
                metrics={key: values[key] for key in metrics if key in values},
            )
            trials.append(trial)
        return trials

    def beginning(self, run_id: str) -> list[Run]:
        """Return the runs whose ids begin with a text."""
        return self._search(f"attributes.run_id LIKE '{run_id}%'") if run_id.isalnum() else []

    def _search(self, condition: str) -> list[Run]:
        with self.client() as client:
            ids = [experiment.experiment_id for experiment in client.search_experiments()]
            page = client.search_runs(ids, condition, max_results=1000)
            runs: list[Run] = list(page)
            while page.token:
                page = client.search_runs(ids, condition, max_results=1000, page_token=page.token)
                runs += page
            return runs

    def delete(self, run_id: str) -> None:
        """Mark a run as deleted, as MLflow's pages do; `mlflow gc` removes it for good."""
        run = self.run(run_id)
        if run is not None and run.info.lifecycle_stage == "active":
            with self.client() as client:
                client.delete_run(run_id)
            self.require(run_id, lambda stored: stored.info.lifecycle_stage == "deleted")

    def files_of(self, run_id: str) -> Path | None:
        """Return the folder of a run's artifacts; `None` if it is not beside this database."""
        run = self.run(run_id)
        if run is None or is_server(self.uri) or not run.info.artifact_uri.startswith("file:"):
            return None
        folder = Path(url2pathname(urlsplit(run.info.artifact_uri).path)).parent
        database = sqlite_path(self.uri)
        if database is not None:
            is_beside = database.parent / ARTIFACTS in folder.parents
        else:  # the experiment may have been created in another folder
            is_beside = ARTIFACTS in folder.parts
        return folder if is_beside and folder.name == run_id else None

    def holds(self, address: str) -> bool:
        """Tell whether files at an address are this store's own.

        Whoever records a run or registers a model can choose the address of its files. Own are:

        - of a database file, what lies in `mlartifacts` or `mlruns` beside it;
        - of a database server, what lies in a folder `mlartifacts` on this machine;
        - of a tracking server, what it serves itself: `mlflow-artifacts:`, its own scheme, host and
          port, and `dbfs:` of Databricks;
        - of a tracking server whose clients use its storage directly, what has the scheme and the
          host (the bucket) of its artifact root, such as `s3://bucket`, or lies below it if it is a
          folder. The root is that of MLflow's first experiment, which the server creates with its
          database: a client may choose the location of any other experiment, but not of this one.
        """
        parts = urlsplit(address)
        if ".." in unquote(parts.path).split("/"):
            return False
        if not is_server(self.uri):
            return _is_beside(self.uri, address)
        return _is_served(self.uri, address) or self._is_in_root(address)

    def _is_in_root(self, address: str) -> bool:
        scheme, host = urlsplit(address)[:2]
        if scheme in (*SENT_LOGIN, *LOCAL):
            return False
        first = self.call_or_none(lambda client: client.get_experiment(FIRST_EXPERIMENT))
        if first is None:
            return False
        root = str(first.artifact_location).rstrip("/").removesuffix(f"/{FIRST_EXPERIMENT}")
        if host:
            return urlsplit(root)[:2] == (scheme, host)
        return address.startswith(f"{root}/")

    def reopen(self, run_id: str) -> None:
        """Set a run to RUNNING again, and drop the reason of an earlier end."""
        with self.client() as client:
            client.update_run(run_id, status="RUNNING")
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
        """Log values, parameters and tags in one call; repeating the call stores nothing twice.

        A parameter keeps its first value. `is_new` says that the run has no parameters yet.
        """
        if not (points or params or tags):
            return
        texts = param_texts(params or {})
        all_tags = tag_texts(tags or {})
        batch = uuid4().hex[:12]
        if is_server(self.uri):
            all_tags[BATCH_TAG] = batch
        with self.client() as client:
            # MLflow refuses a whole batch over one parameter that differs.
            may_differ = bool(params) and not is_new
            stored = client.get_run(run_id).data.params if may_differ else {}
            client.log_batch(
                run_id,
                [Metric(field_name(key), value, ms, step) for key, value, ms, step in points],
                [Param(key, text) for key, text in texts.items() if key not in stored],
                [RunTag(key, value) for key, value in all_tags.items()],
            )
        self.require(run_id, lambda run: run.data.tags.get(BATCH_TAG) == batch)

    def log_data(self, run_id: str, data: Mapping[str, str], context: str) -> None:
        """Log the data set of a run, by its fields; repeating the call stores nothing twice."""
        tags = [InputTag("mlflow.data.context", context)]
        with self.client() as client:
            client.log_inputs(run_id, [DatasetInput(Dataset(**data), tags)])
        self.require(run_id, lambda run: bool(run.inputs and run.inputs.dataset_inputs))

    def upload(self, run_id: str, file: Path, folder: str) -> None:
        """Upload a file as an artifact into a folder of the run's artifacts ('' = the top)."""
        with self.client() as client:
            if run_id not in self._with_folder:
                location = str(client.get_run(run_id).info.artifact_uri)
                refused = (*SENT_LOGIN, *LOCAL) if is_server(self.uri) else SENT_LOGIN
                if urlsplit(location).scheme in refused and not self.holds(location):
                    line = (
                        f"the artifacts of run {run_id[:8]} would go to {redact(location)}, which "
                        f"is not a place of {named(self.uri)}; set another tracking.experiment"
                    )
                    raise StoreError("refused", line)
                create_private(location)
                self._with_folder.add(run_id)
            client.log_artifact(run_id, str(file), folder or None)

    def require_files(self, run_id: str, folder: str, names: Collection[str]) -> None:
        """Raise StoreError if a server that stores artifacts itself lacks some of a folder."""
        run = self.run(run_id) if is_server(self.uri) else None
        # Whoever may write to other storage may not be allowed to list it.
        if run is None or not run.info.artifact_uri.startswith(SERVED_ARTIFACTS):
            return
        with self.client() as client:
            artifacts = client.list_artifacts(run_id, folder or None)
            stored = {PurePosixPath(artifact.path).name for artifact in artifacts}
            if not stored.issuperset(names):
                raise MlflowException(FOREIGN_ANSWER)

    def require(self, run_id: str, is_stored: Callable[[Run], bool]) -> None:
        """Raise StoreError if a server lacks what a run was sent.

        The server answers most calls with an empty object, as a proxy may do in its place.
        """
        if is_server(self.uri):
            with self.client() as client:
                if not is_stored(client.get_run(run_id)):
                    raise MlflowException(FOREIGN_ANSWER)

    def terminate(self, run_id: str, status: Status, *, reason: str | None, end: int) -> None:
        """Set a run's final status, with its end in milliseconds since 1970.

        `reason` becomes the tag `end_reason`; `None` drops the tag of an earlier end.
        """
        if reason is None:
            self._drop_tag(run_id, END_TAG)
        else:
            self.log(run_id, tags={END_TAG: reason})
        with self.client() as client:
            client.set_terminated(run_id, status=status, end_time=end)

    @contextmanager
    def client(self) -> Iterator[MlflowClient]:
        """Context with MLflow's own client; what is raised in it becomes a `StoreError`."""
        try:
            if self._client is None:
                with prepare_database(self.uri):
                    client = MlflowClient(self.uri)
                if is_server(self.uri):
                    require_identities(client)
                self._client = client
            yield self._client
        except StoreError:
            raise
        except MlflowException as error:
            raise refusal(self.uri, str(error.error_code), str(error.message)) from error
        except ImportError as error:
            raise missing_package(self.uri, str(error.name)) from error
        except Exception as error:
            # The errors of the libraries below MLflow (SQLAlchemy, requests, botocore) have no
            # common class.
            raise fault(self.uri, str(error)) from error

    def call_or_none(
        self, call: Callable[[MlflowClient], _Item], *, missing: Sequence[str] = MISSING
    ) -> _Item | None:
        """Return the result of a call; `None` if MLflow answers with an error code in `missing`."""
        with self.client() as client:
            try:
                return call(client)
            except MlflowException as error:
                if error.error_code not in missing:
                    raise
        return None

    def _experiment_id(self, name: str, client: MlflowClient) -> str:
        """Return the id of an experiment, created if it is missing; a deleted one is refused."""
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            location = None
            if not is_server(self.uri):  # a server chooses the location itself
                # Artifacts lie beside a database file. With a database server they lie in the
                # folder in which the experiment was created, which other machines must reach by the
                # same path.
                database = sqlite_path(self.uri) or Path.cwd() / DATABASE
                location = (database.parent / ARTIFACTS / field_name(name)).as_uri()
            try:
                client.create_experiment(name, location, tags=EXPERIMENT_TAGS)
            except MlflowException as error:  # another process may have created it meanwhile
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            experiment = client.get_experiment_by_name(name)
            assert experiment is not None
        experiment_id = str(experiment.experiment_id)
        if experiment.lifecycle_stage == "deleted":
            line = (
                f"tracking.experiment={name!r} has been deleted in {named(self.uri)}; choose "
                f"another, or type: mlflow experiments restore -x {experiment_id}"
            )
            raise StoreError("deleted", line)
        if experiment_id == FIRST_EXPERIMENT:
            line = (
                f"tracking.experiment={name!r} is MLflow's default, which can't store artifacts "
                "here; choose another name"
            )
            raise StoreError("refused", line)
        for key, value in EXPERIMENT_TAGS.items():
            if key not in experiment.tags:  # another program may have created it
                client.set_experiment_tag(experiment_id, key, value)
        return experiment_id

    def _drop_tag(self, run_id: str, key: str) -> None:
        run = self.run(run_id)
        if run is not None and key in run.data.tags:
            with self.client() as client:
                client.delete_tag(run_id, key)
            self.require(run_id, lambda run: key not in run.data.tags)

    def _with_retries(self, call: Callable[[MlflowClient], _Item]) -> _Item:
        """Retry a call for up to a minute while another program holds the database's lock."""
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                with self.client() as client:
                    return call(client)
            except StoreError as error:
                if error.kind != "locked" or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)


def _is_served(uri: str, address: str) -> bool:
    """Tell whether an address is answered by the tracking server at `uri`."""
    parts = urlsplit(address)
    server = urlsplit(uri)
    try:
        is_same_host = (parts.hostname, parts.port) == (server.hostname, server.port)
    except ValueError:  # a port that is not a number
        return False
    if parts.scheme == "mlflow-artifacts":
        return is_same_host or not parts.netloc
    if parts.scheme == "dbfs":
        return server.scheme == "databricks" and not parts.netloc
    return is_same_host and parts.scheme == server.scheme


def _is_beside(uri: str, address: str) -> bool:
    """Tell whether an address is that of a local file in a folder of artifacts of a database."""
    parts = urlsplit(address)
    if parts.scheme not in ("", "file") or parts.netloc:
        return False
    path = Path(url2pathname(parts.path) if parts.scheme else address).resolve()
    database = sqlite_path(uri)
    if database is None:
        return ARTIFACTS in path.parts
    for name in (ARTIFACTS, "mlruns"):
        if path.is_relative_to((database.parent / name).resolve()):
            return True
    return False


def create_private(location: str) -> None:
    """Create the folder of our artifacts for its owner only; MLflow would let everybody read it."""
    folder = Path(url2pathname(urlsplit(location).path))
    if location.startswith("file:") and ARTIFACTS in folder.parts:
        with suppress(OSError):  # MLflow reports the error
            create_folder(folder)
