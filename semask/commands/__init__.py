"""The verbs of the command line: arguments, progress, tables, exit codes."""
