"""Models: the R-GCN encoder, the GRU decoders, and the scorers of trained models."""
