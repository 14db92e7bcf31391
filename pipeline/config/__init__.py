"""Configuration of a run: composed by Hydra, checked against types, bounds and constructors."""
