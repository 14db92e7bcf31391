"""One command trains a network; everything about that run can be seen, trusted and repeated."""

__version__ = "0.1.0"
