"""The code blocks of a Markdown file."""

import re
import textwrap

import tiny


def python_blocks(path: str) -> list[str]:
  """The ```python blocks of a file of the repository, without their indentation."""
  found = re.findall(r'^ *```python\n(.*?)^ *```$', (tiny.ROOT / path).read_text(), re.DOTALL | re.MULTILINE)
  return [textwrap.dedent(block) for block in found]
