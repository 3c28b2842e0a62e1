"""Graph-conditioned diffusion: Graph-QFormer, pipeline, training, generation, evaluation."""
