"""The prediction enhancer: from a forest's probabilities to better ones."""
