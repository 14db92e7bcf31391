"""The stages of one run: plan it, put it on record, train, test, and report the result."""
