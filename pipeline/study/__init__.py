"""Studies: many runs of one search space, planned, trained, compared and reported together."""
