"""What a run has found out, for the doctor, pictures and reports to read."""
