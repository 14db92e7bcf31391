"""What a run is: composed by Hydra, checked against types, bounds and constructors."""
