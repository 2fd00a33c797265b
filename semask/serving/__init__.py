"""Models behind HTTP: requests are checked, decoded, batched, segmented and answered, each step within limits."""
