"""The verb `label`: captions are labelled or counted file by file, on all cores."""
