"""What tests in several folders share.

Data and results that tests make:

- `sample_data`: options as the program composes them, arrays given by a test, the shipped data sets
- `file_sources`: sources of a user's own files, built from their YAML
- `composed_runs`: configuration, data and network of a run, made without training
- `sample_networks`: networks of `conf/model/` or of a page, with changed parameters
- `sample_findings`: findings of a healthy run, made without training
- `case_tables`: texts with what is expected of each, as lines
- `numpy_cells`: recurrent cells in NumPy, step by step, as an oracle
- `make_old_records`: the script that made `tests/old_records`

Commands and processes:

- `refused_calls`: the message of a call that is refused
- `config_command`: a command that only checks a config, called as a user calls it
- `fork_python`: a `python` that starts at once, since it is a fork of a loaded process
- `server_processes`: real servers and scripts
- `postgres_server`: real PostgreSQL servers
- `chromium`: MLflow's pages in a browser without a screen
- `pty_terminal`: a real terminal whose screen a test can read

What they leave:

- `run_files`: the files of a run: journal, epochs, checkpoints, predictions
- `printed_lines`: differences between a page and what a command printed
- `printed_study`: the lines that every study of a command prints
- `how_to_pages`: the pages of `docs/how-to/`, written and run as they stand

`fixture_types` names the types of the fixtures in `conftest.py`.
"""
