"""The verb `label`: captions are labelled or counted file by file, on all cores or on a Ray cluster."""
