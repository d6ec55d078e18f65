"""Runs every command of the README, with the trainings cut to a few steps."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import venv

from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parent.parent
# `.ci/run` runs these commands itself.
ELSEWHERE = ('./launch.sh test',)
SHORT = '--config.train.steps=6 --config.optim.warmup=2 --config.eval.every=0 --config.checkpoint.every=3'


def commands() -> list[str]:
  """The lines of the README's `bash` blocks."""
  blocks = re.findall(r'```bash\n(.*?)```', (ROOT / 'README.md').read_text(), re.DOTALL)
  lines = [line.split('  #')[0].strip() for block in blocks for line in block.replace('\\\n', ' ').splitlines()]
  return [line for line in lines if line and not line.startswith('#')]


def main() -> None:
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    venv.create(folder / 'environment', with_pip=True)  # plays the user's environment, for `pip install -e .`
    environment = os.environ | {
      'PATH': f'{folder}/environment/bin:{os.environ["PATH"]}',
      'PIP_CONSTRAINT': f'{ROOT}/constraints.txt',  # a new release of a dependency must not fail this change
    }
    for entry in ROOT.iterdir():
      if entry.name != 'runs':  # the commands make this folder
        (folder / entry.name).symlink_to(entry)
    (folder / 'folder').mkdir()
    for path in ('photo.jpg', 'folder/another.png'):
      Image.effect_noise((150, 100), 60).save(folder / path)
    for command in commands():
      if command.startswith(ELSEWHERE):
        continue
      if re.search(r'fcn_jax\.(main|sweep) --config|launch\.sh run', command):
        command += f' {SHORT}'
      if 'fcn_jax.sweep' in command:
        command += ' --only=stride=32,upsample=learned_random,seed=0'
      print(f'$ {command}', flush=True)
      begun = time.time()
      done = subprocess.run(command, shell=True, cwd=folder, env=environment)
      print(f'exit code {done.returncode} after {time.time() - begun:.0f} s', flush=True)
      if done.returncode:
        sys.exit(f'error: this command of the README failed: {command}')


if __name__ == '__main__':
  main()
