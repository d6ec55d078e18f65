"""Weights files of other libraries, and what a run starts from.

`formats.read` converts a file to this network's names and layouts. `match` compares it with a network tensor by tensor.
"""
