"""The verb `tune`: settings of methods, from as many trials for each, on the validation parts of tasks."""
