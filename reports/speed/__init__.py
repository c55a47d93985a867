"""Throughput, memory and FLOPs as tables and charts."""
