"""Images from a trained model, each with the record of what it was made from."""
