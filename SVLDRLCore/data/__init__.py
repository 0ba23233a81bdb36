"""Cases, volumes, patches, noise and phantoms."""
