"""SVL-DRL, equation by equation (actions, rewards, returns, losses, episode, method)."""
