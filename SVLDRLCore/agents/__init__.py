"""vA3C: actions, rewards, returns, losses and rollouts (SVL-DRL section 3.3)."""
