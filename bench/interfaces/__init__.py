"""What can be added to the project, and how it is loaded."""
