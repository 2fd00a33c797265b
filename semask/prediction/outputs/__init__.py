"""What is written of an image: one file a kind, found by its name."""
