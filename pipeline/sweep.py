"""`python -m pipeline.sweep model=lstm sweeps=lr_epochs_clip`: a study of many runs."""

from omegaconf import DictConfig

from pipeline.config.options import SweepConfig
from pipeline.entry import command, run_as_process
from pipeline.errors import ConfigError
from pipeline.running.command_line import Command
from pipeline.study.space.space import with_space
from pipeline.study.space.trial_configs import names_of_study


def body(config: DictConfig) -> int:
    """Start the study that the config describes, resume it, or join it."""
    said = Command.of_this_process()
    if config.find_lr:
        raise ConfigError(
            "find_lr=true tests the rates of one run: give it to python -m pipeline.train"
        )
    if config.sweep.preflight is True:
        from pipeline.study.preflight import preflight

        preflight(said.overrides, said.config_dir)
        return 0
    from pipeline.study.plan import make_study_plan
    from pipeline.study.sweeping import sweep

    sweep(make_study_plan(config, said.overrides, said.config_dir))
    return 0


main = command("sweep", body, options=SweepConfig, rewrite=with_space, more_names=names_of_study)

if __name__ == "__main__":
    run_as_process(main)
