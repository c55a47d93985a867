"""One run measured: speed, memory, FLOPs and costs."""
