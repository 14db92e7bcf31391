"""The record of a study in Optuna: which process trains each trial, and how each ended."""
