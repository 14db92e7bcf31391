"""What a run leaves on record: a journal in its folder, and MLflow filled from it."""
