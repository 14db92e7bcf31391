"""`python -m pipeline.train model=lstm`: one run, from the data to a tested network on record."""

from omegaconf import DictConfig

from pipeline.entry import command, run_as_process
from pipeline.ranks import ALONE, launched_rank
from pipeline.running.command_line import Command, with_saved_overrides


def body(config: DictConfig) -> int:
    """Train as configured and print the result."""
    from pipeline.run import find_lr, run, take_part

    if not (launched_rank() or ALONE).leads:
        take_part(config)
        return 0
    if config.find_lr:
        found = find_lr(config, command=Command.of_this_process())
        if config.verbose != 0:
            found.print()
        return 0
    if config.verbose == 0:
        run(config, command=Command.of_this_process())
        return 0
    from pipeline.running.results import last_lines, print_lines, showing_results

    with showing_results() as show:
        result = run(config, command=Command.of_this_process(), shows=show)
    print_lines(last_lines(result))
    return 0


main = command("train", body, rewrite=with_saved_overrides)

if __name__ == "__main__":
    run_as_process(main)
