"""The verb `label`: a vocabulary of the labels of captions, or the labels of one caption."""
