"""The same numbers, faster and in less memory."""
