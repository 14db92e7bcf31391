"""Hidden values of a network for a row, layer by layer. Pure torch."""
