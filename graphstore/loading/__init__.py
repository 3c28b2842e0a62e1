"""Bringing a graph into a store: from the published datasets, or from another store."""
