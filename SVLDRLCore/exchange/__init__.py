"""What leaves and enters this program: model packages."""
