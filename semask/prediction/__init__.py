"""Model + image -> label map."""
