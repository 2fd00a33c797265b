"""Synthetic scenes: a data set that is drawn by a program."""
