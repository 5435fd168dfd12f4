"""The knowledge graph on DGL; sampled neighbourhoods, random walks, partitions."""
