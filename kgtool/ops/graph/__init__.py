"""Kernels over edges: the index of edges from both ends, look-ups, sampling, distances."""
