"""Tables of a user: files of several formats, read in batches of rows."""
