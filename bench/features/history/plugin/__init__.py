"""What is put on the path of other commits' suites: this folder alone."""
