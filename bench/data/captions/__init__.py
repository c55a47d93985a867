"""Files of captions: parquet, csv, jsonl, text and tar."""
