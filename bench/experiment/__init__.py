"""What is run: experiments, their fields in groups, and published recipes."""
