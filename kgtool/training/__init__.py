"""Training: batches, objectives, the optimiser, the training step, the trainer."""
