"""Personalized PageRank on a Neo4j server, by its Graph Data Science library."""
