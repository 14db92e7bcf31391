"""What everything stands on: errors, paths, text, signals, processes."""
