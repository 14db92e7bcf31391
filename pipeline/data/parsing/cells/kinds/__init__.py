"""Kinds of cells of a table's columns, one in each file; `kind.cell_kinds` finds them."""
