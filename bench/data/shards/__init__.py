"""Webdataset shards: their index, their manifest and the stream of their samples."""
