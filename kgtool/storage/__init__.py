"""Files: atomic writes, checkpoints, memory-mapped tensors, result tables, Parquet, archives."""
