"""A diagnosis of a run in words: what is wrong, the evidence, and what would help."""
