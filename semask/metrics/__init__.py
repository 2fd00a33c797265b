"""Scores: integers that are counted pixel by pixel, and divisions on the last line only."""
