"""Datasets written in the layouts of others."""
