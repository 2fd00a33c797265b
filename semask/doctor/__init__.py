"""What is wrong with a data set, before the first step: facts of each file, findings, a page, and a cleaned copy."""
