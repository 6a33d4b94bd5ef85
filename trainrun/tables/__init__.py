"""Tables as columns of text, and the kind of each column: csv needs nothing but Python, parquet pyarrow."""
