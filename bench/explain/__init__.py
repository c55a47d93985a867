"""A ratio between two experiments, taken apart into its causes."""
