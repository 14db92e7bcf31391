"""Opening the black box: what a network makes of a row, layer by layer. Pure torch."""
