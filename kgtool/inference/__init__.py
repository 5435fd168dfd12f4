"""Inference with a trained run: predictions, probabilities, explanations, neighbours, walks."""
