"""Training: batches, objectives, the optimiser, steps, the trainer."""
