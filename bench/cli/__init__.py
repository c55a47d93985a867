"""The command line: one file per verb, the parser and how a command ends."""
