"""A rough mask made better by agents in its voxels."""
