"""One TFDS builder a file; `pipeline` turns what they prepare into batches."""

IGNORE = 255  # the label of pixels that count neither in the loss nor in the metrics
