"""Weights of others: reading their files safely, and finding each of our tensors in them."""
