"""Data: sources of raw content, and the split, scaling, windows and batches shared by all."""
