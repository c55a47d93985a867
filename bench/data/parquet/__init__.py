"""Random access to the values of a column of bytes in Parquet files, without reading their row groups."""
