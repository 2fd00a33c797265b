"""④ Weights ⇄ files."""
