"""LightningModules that wrap any network for a task."""
