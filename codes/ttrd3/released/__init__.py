"""Reads the authors' released checkpoints; the only place that knows their names."""
