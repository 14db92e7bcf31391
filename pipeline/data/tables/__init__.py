"""Tables that a user brings: CSV or Parquet, read a batch of rows at a time."""
