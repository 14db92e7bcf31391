"""Pictures of a run's findings. All are drawn with Matplotlib, after training."""
