"""SVL-DRL, equation by equation (actions, rewards, returns, losses, episode, method).

The paper calls its module vA3C, asynchronous. Here one worker learns synchronously: A2C with an agent in every voxel.
"""
