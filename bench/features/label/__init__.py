"""The verb `label`: the labels of captions are counted file by file, on all cores."""
