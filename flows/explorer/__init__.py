"""The explorer: pages, and an HTTP API, to look at the graph and its neighbors, and to make images."""
