"""SVL-DRL, equation by equation (actions, rewards, returns, losses, episode, method).

The paper calls its module vA3C, asynchronous. By default one process learns, in step: A2C with an agent in every voxel.
`train.actor_learners` has several learn beside one another (`learning.actor_learners`).
"""
