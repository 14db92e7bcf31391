"""Trained models on their own: what they hold, and their predictions for raw rows."""
