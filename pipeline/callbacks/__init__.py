"""What happens around training: progress, the record of an epoch, checkpoints."""
