"""A refiner of any structure: learned on synthetic scenes alone, no model of the structure is needed."""
