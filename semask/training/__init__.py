"""The training loop, what a run keeps, and how it goes on."""
