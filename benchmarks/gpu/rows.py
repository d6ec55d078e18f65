"""Results of the GPU benchmarks: rows, as JSON on lines of the standard output. Imports nothing that takes time."""

import itertools
import json

from absl import flags

# Settings of the section `model` of a network that a CPU compiles in seconds.
SMALL = {'width': 0.0625, 'fc_channels': 512, 'stride': 32, 'norm': 'none', 'dtype': 'float32'}


def define_small() -> None:
  """Defines the flag --small."""
  flags.DEFINE_bool('small', False, 'Tiny networks and images, to try the script on a CPU.')


def show(row: dict) -> None:
  """Prints a row; `read` reads the line."""
  print(json.dumps(row), flush=True)


def read(line: str) -> dict | None:
  """The row on a line, or None if it is another line."""
  try:
    row = json.loads(line) if line.startswith('{') else None
  except ValueError:
    return None
  return row if isinstance(row, dict) else None


def text(row: dict) -> str:
  """A row as one line for the terminal."""
  return ', '.join(f'{key.replace("_", " ")} {cell(value)}' for key, value in row.items())


def cell(value) -> str:
  """A value with three or more digits."""
  if not isinstance(value, float):
    return str(value).replace('|', '\\|')
  return f'{value:.0f}' if abs(value) >= 1000 else f'{value:.3g}'


def tables(rows: list[dict]) -> str:
  """Rows as tables in Markdown; consecutive rows with the same keys share a table, and a note is a line."""
  lines = []
  for keys, group in itertools.groupby(rows, key=tuple):
    if keys == ('note',):
      lines += [row['note'] for row in group]
    else:
      lines += [f'| {" | ".join(key.replace("_", " ") for key in keys)} |', '|---' * len(keys) + '|']
      lines += [f'| {" | ".join(map(cell, row.values()))} |' for row in group]
    lines.append('')
  return '\n'.join(lines)
