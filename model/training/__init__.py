"""Training: configuration, what is computed once, the loop, and what is published."""
