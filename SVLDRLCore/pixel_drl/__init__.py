"""PixelDRL-MG (Liu 2025): an agent in each pixel of a slice makes the mask; and its relatives among deep RL methods."""
