"""A model for images of another kind than the labelled ones, from images of that kind without labels."""
