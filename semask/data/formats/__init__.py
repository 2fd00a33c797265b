"""One file a data set or label format."""
