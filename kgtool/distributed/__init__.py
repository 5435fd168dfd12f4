"""Training and evaluation with several processes."""
