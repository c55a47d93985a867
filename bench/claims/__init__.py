"""Claims of papers, one file each, and what counted FLOPs and a model of communication predict for each."""
