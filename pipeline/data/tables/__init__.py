"""Tables of a user: CSV or Parquet files, read in batches of rows."""
