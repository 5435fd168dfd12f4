"""The neighbour sums of R-GCN layers, for basis and for block-diagonal weights."""
