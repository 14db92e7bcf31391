"""The rules of the doctor, a file for each."""
