"""The other tasks: relations, triples, path queries, walks."""
