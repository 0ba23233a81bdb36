"""Between the scene and files: volumes, segmentations, cases of the scene, parameters."""
