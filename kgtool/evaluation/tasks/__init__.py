"""Tasks other than link prediction: relations, triples, path queries, walks."""
