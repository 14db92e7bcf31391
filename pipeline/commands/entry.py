"""Entry of every command: checks names, calls Hydra, prints errors, returns exit codes."""

import argparse
import contextlib
import io
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, open_dict
from pydantic import BaseModel

from pipeline import __version__, exit_codes
from pipeline.base.errors import ConfigError
from pipeline.base.paths import conf_folder, name_user
from pipeline.base.processes.child import tune_process
from pipeline.base.signals import orderly_stop, stop
from pipeline.base.streams import make_tolerant
from pipeline.config.compose import fitted_to_words
from pipeline.config.composer import composition_problem
from pipeline.config.name_check import MoreNames, check_names, suggestion
from pipeline.config.options import RunConfig
from pipeline.config.overrides import place_problems, quoted
from pipeline.config.values import validated
from pipeline.running.failures import print_error

Body = Callable[[Any], int]
_FULL_ERROR = "HYDRA_FULL_ERROR"


def command(
    config_name: str,
    body: Body,
    *,
    options: type[BaseModel] = RunConfig,
    validates: bool = False,
    rewrite: Callable[[Sequence[str]], list[str]] = list,
    more_names: MoreNames | None = None,
) -> Callable[..., int]:
    """Return the `main` of a command, which takes a command line and returns its exit code.

    Args:
        config_name: The root file in `conf/`, without `.yaml`.
        body: Does the work for a composed tree and returns the exit code.
        options: Model of the keys that the tree may have.
        validates: Whether the body takes validated `options` instead of the tree.
        rewrite: Replaces the words of the command line before anything reads them.
        more_names: Checks names that only this command has.
    """
    return _Entry(config_name, body, options, validates, rewrite, more_names).main


@dataclass(frozen=True, slots=True)
class _Entry:
    """The arguments of `command`, and the function that it returns."""

    config_name: str
    body: Body
    options: type[BaseModel]
    validates: bool
    rewrite: Callable[[Sequence[str]], list[str]]
    more_names: MoreNames | None

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Run the command line, of this process by default, and return its exit code."""
        if argv is None:
            tune_process()
        make_tolerant()
        name_user()
        words = list(sys.argv[1:] if argv is None else argv)
        if "--version" in words:  # Hydra would print its own
            print(f"pipeline {__version__}")
            return 0
        traceback = _FULL_ERROR in os.environ or "traceback=true" in words
        try:
            with orderly_stop():
                problems = list(place_problems(words))
                if problems:
                    raise ConfigError(*problems)
                code = self._run(self.rewrite(words), traceback=traceback)
        except BaseException as error:
            code = print_error(error, traceback=traceback)
        finally:
            sys.stdout.flush()
        if argv is None:
            exit_codes.append(code)
        return code

    def _run(self, words: Sequence[str], *, traceback: bool) -> int:
        """Check the names in a command line and carry out its runs; return the exit code."""
        arguments, unknown_flags = _parsed(words)
        if unknown_flags:
            check = partial(check_names, config_name=self.config_name, options=self.options)
            raise ConfigError(*(_unknown_flag(flag, words, check) for flag in unknown_flags))
        flags = list(words)
        for override in arguments.overrides:
            flags.remove(override)
        asks_hydra = arguments.hydra_help or arguments.shell_completion
        runs_nothing = arguments.help or arguments.cfg or arguments.info or asks_hydra
        lines, tree = check_names(
            [] if asks_hydra else arguments.overrides,
            config_name=self.config_name,
            config_dir=None if arguments.config_dir is None else Path(arguments.config_dir),
            multirun=arguments.multirun,
            options=self.options,
            more_names=None if runs_nothing else self.more_names,
        )
        if arguments.shell_completion:
            lines = arguments.overrides
        runs = _Runs(self, traceback=traceback)
        with _settings_of_hydra([*lines, *flags], multirun=arguments.multirun):
            try:
                if tree is not None and not flags:
                    _run_composed(runs.carry_out, tree)
                else:
                    hydra.main(str(conf_folder()), self.config_name, version_base=None)(
                        runs.carry_out
                    )()
            except ValueError as error:  # raised by Hydra, such as for flags that exclude others
                raise ConfigError(composition_problem(error)) from error
        return max(runs.exit_codes, default=0)


class _Runs:
    """The runs of one command line. Hydra calls `carry_out` for each of them."""

    def __init__(self, entry: _Entry, *, traceback: bool) -> None:
        self.exit_codes: list[int] = []
        self._entry = entry
        self._traceback = traceback

    def carry_out(self, config: DictConfig) -> None:
        """Carry out one run and note its exit code; a requested stop ends all runs."""
        try:
            os.environ.pop(_FULL_ERROR, None)  # a process that the run starts would inherit it
            _refuse_devices_of_several_runs(config)
            tree = fitted_to_words(config, HydraConfig.get())
            entry = self._entry
            code = entry.body(validated(entry.options, tree) if entry.validates else tree)
        except (Exception, SystemExit) as error:
            stop.check()  # a library may turn the signal into another error while it is imported
            code = print_error(error, traceback=self._traceback)
        finally:
            os.environ[_FULL_ERROR] = "1"
        self.exit_codes.append(code)


def _run_composed(job: Callable[[DictConfig], None], tree: DictConfig) -> None:
    """Run a job with its composed tree, as Hydra does for a command line without flags."""
    hydra_config = HydraConfig.instance()
    before = hydra_config.cfg
    with open_dict(tree):
        tree.hydra.mode = RunMode.RUN
        tree.hydra.runtime.output_dir = str(Path.cwd())
    hydra_config.set_config(tree)
    try:
        config = deepcopy(tree)  # references in Hydra's own part still resolve
        with open_dict(config):
            del config["hydra"]
        job(config)
    finally:
        hydra_config.cfg = before


def is_one_of_several() -> bool:
    """Return whether the command carries out several runs, with `-m`."""
    return str(HydraConfig.get().mode).endswith("MULTIRUN")


def _refuse_devices_of_several_runs(config: DictConfig) -> None:
    trainer = config.get("trainer")
    devices = trainer.get("devices") if isinstance(trainer, DictConfig) else None
    count = len(devices) if isinstance(devices, ListConfig) else devices
    if is_one_of_several() and isinstance(count, int) and count > 1:
        raise ConfigError(
            f"trainer.devices={devices} can't be combined with -m; start each run separately"
        )


def _parsed(words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the arguments of a command line for Hydra, and the flags that Hydra does not know."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            arguments, unknown = get_args_parser().parse_known_intermixed_args(words)
    except SystemExit as error:
        if error.code == 0:
            raise
        problem = printed.getvalue().strip().rpartition("error: ")[2]
        raise ConfigError(f"{problem}; see --help") from error
    if arguments.multirun and (arguments.cfg or arguments.info):
        raise ConfigError("--cfg and --info show one run; remove -m, and set one choice per group")
    if arguments.experimental_rerun is not None:
        raise ConfigError("--experimental-rerun runs code from a file; resume=RUN continues a run")
    if arguments.config_name is not None or arguments.config_path is not None:
        raise ConfigError(
            "--config-name and --config-path replace the root file with Hydra's settings; put your "
            "keys into FOLDER/experiment/NAME.yaml and add --config-dir FOLDER "
            "experiment=NAME"
        )
    return arguments, unknown


def _unknown_flag(flag: str, words: Sequence[str], check: Callable[[Sequence[str]], object]) -> str:
    """Return the line for an unknown flag, such as `--epochs` of `--epochs 5`."""
    name, sign, value = flag.partition("=")
    if not sign:
        value = "VALUE"
        following = words[words.index(flag) + 1 :]
        if following and "=" not in following[0] and not following[0].startswith("-"):
            value = following[0]
    override = suggestion(f"{name.lstrip('-').replace('-', '_')}={value}", check)
    if override is None:
        return f"unrecognized arguments: {flag}; see --help"
    return f"{flag} is not a flag; settings are KEY=VALUE. Did you mean '{override}'?"


@contextlib.contextmanager
def _settings_of_hydra(words: list[str], *, multirun: bool) -> Iterator[None]:
    """Set the process state that Hydra reads, and restore afterwards what Hydra changes.

    Hydra reads its words from `sys.argv`. Without the variable it prints errors as tracebacks and
    ends the process. It also replaces the handlers of the root logger, for example for `--info`.
    """
    argv = sys.argv
    full_error = os.environ.get(_FULL_ERROR)
    root = logging.getLogger()
    handlers = list(root.handlers)
    level = root.level
    GlobalHydra.instance().clear()
    with contextlib.ExitStack() as stack:
        if multirun:
            # Hydra writes a file about the sweep, which adds nothing to the runs' own records.
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            words = [f"hydra.sweep.dir={quoted(folder)}", *words]
        sys.argv = [argv[0], *words]
        os.environ[_FULL_ERROR] = "1"
        try:
            yield
        finally:
            sys.argv = argv
            os.environ.pop(_FULL_ERROR, None)
            if full_error is not None:
                os.environ[_FULL_ERROR] = full_error
            root.handlers[:] = handlers
            root.setLevel(level)
