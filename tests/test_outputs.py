"""A command replaces the files that an earlier call of it wrote, and no others."""

import pytest
from etils import epath

from fcn_jax import files, outputs
from fcn_jax.errors import UserError


def test_files_of_an_earlier_call_are_replaced_and_others_are_not(tmp_path):
  folder = epath.Path(tmp_path) / 'out'
  outputs.reserve(folder, ['table.md', 'eval/test.json'])
  files.write(folder / 'table.md', 'first')
  outputs.reserve(folder, ['table.md', 'index.html'])
  files.write(folder / 'notes.md', "a user's")
  with pytest.raises(UserError, match=r'notes\.md would be overwritten, but an earlier call .* did not write it'):
    outputs.reserve(folder, ['table.md', 'notes.md'])
  outputs.check(folder, ['table.md', 'eval/test.json', 'index.html', 'new.md'])


def test_a_folder_that_has_the_files_of_another_program_is_refused(tmp_path):
  folder = epath.Path(tmp_path)
  files.write(folder / 'table.md', "a user's")
  with pytest.raises(UserError, match=r'table\.md would be overwritten'):
    outputs.reserve(folder, ['table.md'])
  assert [path.name for path in folder.iterdir()] == ['table.md']
