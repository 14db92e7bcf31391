"""Child processes: starting one, talking to it, watching it, ending it."""
