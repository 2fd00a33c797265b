"""Models as files for other engines, and back."""
