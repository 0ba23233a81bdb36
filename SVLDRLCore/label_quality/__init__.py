"""Which labels to label_agent_weights, while training and in an audit."""
