"""What a study varies: ranges in Hydra's grammar, and the run of each point."""
