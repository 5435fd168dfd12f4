"""Answers to questions: predictions, probabilities, explanations, neighbours, walks."""
