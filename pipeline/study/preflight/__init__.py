"""One batch of everything that the config tree holds, before any real time is spent."""
