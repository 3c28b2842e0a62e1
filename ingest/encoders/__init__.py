"""Image-text encoders: a mini CLIP trained on one's own images, or any open_clip model, and the vectors they make."""
