"""Networks in pure torch; each constructor is the schema of its file in `conf/model/`."""
