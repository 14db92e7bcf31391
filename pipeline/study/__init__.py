"""Studies: many runs of one space, taken, trained, judged and told together."""
