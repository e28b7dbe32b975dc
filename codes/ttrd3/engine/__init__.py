"""Training and validation."""
