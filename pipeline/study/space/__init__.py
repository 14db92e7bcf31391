"""The search space of a study: ranges in Hydra's grammar, and the run of each point."""
