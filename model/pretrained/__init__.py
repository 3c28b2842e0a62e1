"""Base models and checkpoints of others, loaded so that every weight comes from its files."""
