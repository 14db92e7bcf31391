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
from pipeline.config.compose import (
    MoreNames,
    checked,
    composition_problem,
    fitted_to_words,
    suggestion,
)
from pipeline.config.options import RunConfig
from pipeline.config.overrides import place_problems, quoted
from pipeline.config.values import validated
from pipeline.errors import ConfigError
from pipeline.failures import print_error
from pipeline.paths import conf_folder, name_user
from pipeline.processes.child import tune_process
from pipeline.signals import orderly_stop, stop
from pipeline.streams import make_tolerant

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

    def main(argv: Sequence[str] | None = None) -> int:
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
        names = partial(checked, options=options, more=more_names)

        def work(tree: DictConfig) -> int:
            return body(validated(options, tree) if validates else tree)

        try:
            with orderly_stop():
                if problems := list(place_problems(words)):
                    raise ConfigError(*problems)
                code = _called(rewrite(words), config_name, work, names, traceback=traceback)
        except BaseException as error:
            code = print_error(error, traceback=traceback)
        finally:
            sys.stdout.flush()
        if argv is None:
            exit_codes.append(code)
        return code

    return main


def _called(
    words: Sequence[str],
    config_name: str,
    body: Body,
    names: Callable[..., tuple[list[str], DictConfig | None]],
    *,
    traceback: bool,
) -> int:
    arguments, unknown = _parsed(words)
    if unknown:
        check = partial(names, config_name=config_name, more=None)
        raise ConfigError(*(_unknown_flag(flag, words, check) for flag in unknown))
    flags = list(words)
    for override in arguments.overrides:
        flags.remove(override)
    hydras_own = arguments.hydra_help or arguments.shell_completion
    asks = arguments.help or arguments.cfg or arguments.info or hydras_own
    lines, tree = names(
        [] if hydras_own else arguments.overrides,
        config_name=config_name,
        config_dir=None if arguments.config_dir is None else Path(arguments.config_dir),
        multirun=arguments.multirun,
        **({"more": None} if asks else {}),
    )
    if arguments.shell_completion:
        lines = arguments.overrides
    codes: list[int] = []

    def job(config: DictConfig) -> None:
        codes.append(_outcome(config, body, traceback=traceback))

    with _settings_of_hydra([*lines, *flags], multirun=arguments.multirun):
        try:
            if tree is not None and not flags:
                _carry_out(job, tree)
            else:
                hydra.main(str(conf_folder()), config_name, version_base=None)(job)()
        except ValueError as error:  # raised by Hydra, such as for flags that exclude each other
            raise ConfigError(composition_problem(error)) from error
    return max(codes, default=0)


def _carry_out(job: Callable[[DictConfig], None], tree: DictConfig) -> None:
    """Run a job with its composed tree, as Hydra does for a command line without flags."""
    hydras_own = HydraConfig.instance()
    before = hydras_own.cfg
    with open_dict(tree):
        tree.hydra.mode, tree.hydra.runtime.output_dir = RunMode.RUN, str(Path.cwd())
    hydras_own.set_config(tree)
    try:
        config = deepcopy(tree)  # references in Hydra's own part still resolve
        with open_dict(config):
            del config["hydra"]
        job(config)
    finally:
        hydras_own.cfg = before


def is_one_of_several() -> bool:
    """Return whether the command carries out several runs, with `-m`."""
    return str(HydraConfig.get().mode).endswith("MULTIRUN")


def _outcome(config: DictConfig, body: Body, *, traceback: bool) -> int:
    """Return the exit code of one run; a requested stop ends all runs."""
    try:
        os.environ.pop(_FULL_ERROR, None)  # a process that the run starts would inherit it
        trainer = config.get("trainer")
        devices = trainer.get("devices") if isinstance(trainer, DictConfig) else None
        count = len(devices) if isinstance(devices, ListConfig) else devices
        if is_one_of_several() and isinstance(count, int) and count > 1:
            raise ConfigError(
                f"trainer.devices={devices} can't be combined with -m; start each run separately"
            )
        return body(fitted_to_words(config, HydraConfig.get()))
    except (Exception, SystemExit) as error:
        stop.check()  # a library may turn the signal into another error while it is imported
        return print_error(error, traceback=traceback)
    finally:
        os.environ[_FULL_ERROR] = "1"


def _parsed(words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return what a command line says to Hydra, and the flags that Hydra does not know."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            arguments, unknown = get_args_parser().parse_known_intermixed_args(words)
    except SystemExit as error:
        if error.code == 0:
            raise
        problem = said.getvalue().strip().rpartition("error: ")[2]
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
        following = words[words.index(flag) + 1 :]
        has_value = following and "=" not in following[0] and following[0][:1] != "-"
        value = following[0] if has_value else "VALUE"
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
    argv, variable = sys.argv, os.environ.get(_FULL_ERROR)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
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
            if variable is not None:
                os.environ[_FULL_ERROR] = variable
            root.handlers[:] = handlers
            root.setLevel(level)
