"""What is on record of a study in Optuna: who takes which trial, and how each ended."""
