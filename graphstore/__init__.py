"""The graph: schema, stores, projection, personalized PageRank, neighbor sampling, lineage."""
