"""Pictures of what a run has found out. All are drawn with Matplotlib, after training."""
