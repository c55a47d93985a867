"""The command line: its verbs, the parser and how a command ends."""
