"""Callbacks of the training: progress, the record of an epoch, checkpoints."""
