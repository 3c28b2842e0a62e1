"""A local Neo4j server with GDS, from Python packages alone."""
