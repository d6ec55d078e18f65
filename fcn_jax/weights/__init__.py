"""Weights files of other libraries, and what a run starts from.

`formats.read` reads a file into this network's names and layouts; `match` compares it with a network tensor by tensor.
"""
