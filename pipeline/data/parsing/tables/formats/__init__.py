"""Formats of table files: each file of this package has one, as `FORMAT`."""
