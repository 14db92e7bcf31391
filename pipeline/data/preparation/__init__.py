"""The steps from rows to batches."""
