"""The graph as arrays, for walks."""
