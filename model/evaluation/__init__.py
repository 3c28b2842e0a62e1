"""How close generated images come to the true ones."""
