"""Data: a source's raw content, and the split, scaling, windows and batches shared by all."""
