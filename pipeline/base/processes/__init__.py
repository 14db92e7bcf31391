"""Child processes: starting, messaging, watching and ending them."""
