"""`python -m pipeline.train model=lstm`: one run, from the data to a tested network on record."""

import sys

from omegaconf import DictConfig, OmegaConf

from pipeline.entry import command
from pipeline.running.continuing import Command, with_saved_overrides


def body(config: DictConfig) -> int:
    """Train what the config says and print what came of it."""
    from pipeline.run import run

    result = run(config, command=_command())
    if config.verbose != 0:
        from pipeline.running.summary import print_result

        print_result(result)
    return 0


def _command() -> Command:
    from hydra.core.hydra_config import HydraConfig

    said = HydraConfig.get()
    # Reading the words one by one would put the values of the environment in.
    words = OmegaConf.to_container(said.overrides.task, resolve=False)
    assert isinstance(words, list)
    overrides = [str(word) for word in words if not str(word).startswith("resume")]
    folders = [one.path for one in said.runtime.config_sources if one.provider == "command-line"]
    return Command(overrides=tuple(overrides), config_dir=folders[0] if folders else None)


main = command("train", body, rewrite=with_saved_overrides)


def cli() -> None:
    """Run as a console script."""
    sys.exit(main(None))


if __name__ == "__main__":
    cli()
