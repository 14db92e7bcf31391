"""Ours beside a baseline, in one run."""
