"""A study and its trials in MLflow."""
