"""A diagnosis of a run in words: what is wrong, how one sees it, what would help."""
