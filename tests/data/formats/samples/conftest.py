"""The scripts here need the tools whose files they write, which the tests do without."""

collect_ignore_glob = ["write_*.py"]
