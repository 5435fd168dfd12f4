"""Kernels of all-paths passes: the entities reached, the messages, the GRU, the loss."""
