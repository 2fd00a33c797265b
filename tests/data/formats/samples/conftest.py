"""The script needs the tools themselves, which no environment of the tests has."""

collect_ignore = ["write.py"]
