"""The knowledge graph on DGL, and what is drawn from it: neighbourhoods, walks, partitions."""
