"""What each stage of a model already believes of an image: priors, semantic attention, early exits, and their page."""
