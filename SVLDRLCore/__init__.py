"""Staged voxel-level deep reinforcement learning for segmentation with noisy labels."""
