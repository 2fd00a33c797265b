"""④ Maps to class scores or masks, one file a paper; `catalog.py` finds them by name."""
