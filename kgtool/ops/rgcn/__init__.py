"""The neighbour sums of R-GCN: basis and block-diagonal."""
