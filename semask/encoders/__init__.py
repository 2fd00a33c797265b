"""② Image to one map, and one semantic prior, a stage."""
