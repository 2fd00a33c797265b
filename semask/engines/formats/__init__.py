"""⑥ Formats of exported files: one file each, found by its name."""
