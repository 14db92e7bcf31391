"""What scores a model: metrics over rows, baselines, intervals, importances."""
