"""Kernels for losses and ranks: softmax over all entities, counts of better scores."""
