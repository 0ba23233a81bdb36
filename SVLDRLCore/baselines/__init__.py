"""Supervised training and the methods that SVL-DRL is compared with, one file each."""
