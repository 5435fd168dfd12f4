"""Data sets: triples, labels, the index of answers, splits, statistics, loaders, registry."""
