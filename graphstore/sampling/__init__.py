"""Semantic PPR: the neighbors that an item's image is made from."""
