"""How files, cells and columns are read."""
