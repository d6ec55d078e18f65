"""One TFDS builder a file; `pipeline` turns what they prepare into batches."""
