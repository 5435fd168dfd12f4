"""What all kernels stand on: compilation, threads, memory, bfloat16, vector lanes, sorting."""
