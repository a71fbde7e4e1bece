"""The command line: the words that are typed, and nothing that is heavy."""
