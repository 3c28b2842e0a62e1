"""Items by image and by the words of their titles."""
