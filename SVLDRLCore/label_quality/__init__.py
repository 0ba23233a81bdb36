"""Which labels to believe, while training and in an audit."""
