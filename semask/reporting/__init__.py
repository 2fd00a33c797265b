"""Runs and evaluations -> one HTML file with curves, tables and pictures, which needs nothing else."""
