"""Cells of a table's columns: what they show, and how they are read as numbers and written."""
