"""Model packages: what is saved, loaded and told of a trained model."""
