"""A trained model by itself: what it holds, and what it says of raw rows."""
