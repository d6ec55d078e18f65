"""Speed and scores of the runs of a sweep, from the files in their directories.

python -m benchmarks.gpu.timings runs/sweep
"""

import statistics

from etils import epath

from benchmarks.gpu import rows
from fcn_jax import cli
from fcn_jax.errors import UserError
from fcn_jax.run import saved


def of_run(workdir: epath.Path) -> dict:
  """The speed of a run so far.

  Returns:
    images_per_second, without compilation, evaluations and checkpoints; first_step_seconds, which includes compilation,
    of the last start; first_evaluation_seconds, which includes compilation; evaluation_seconds, the median of the
    evaluations between the first and the last; last_evaluation_seconds, which includes storing the predictions; and
    peak_memory_gib. Without what the run has not reached yet.
  """
  timing = saved.read_rows(workdir / 'timing.jsonl')
  values = {name: [row[name] for row in timing if name in row] for name in set().union(*timing)}
  found, laps, evaluations = {}, values.get('images_per_second'), values.get('eval_seconds')
  if laps:  # of equal numbers of steps: the harmonic mean is all images by all seconds
    found |= {'images_per_second': statistics.harmonic_mean(laps), 'peak_memory_gib': values['peak_memory_gib'][-1]}
  if 'first_step_seconds' in values:
    found['first_step_seconds'] = values['first_step_seconds'][-1]
  if evaluations:
    found['first_evaluation_seconds'] = evaluations[0]
  if evaluations and len(evaluations) > 2:
    found['evaluation_seconds'] = statistics.median(evaluations[1:-1])
    found['last_evaluation_seconds'] = evaluations[-1]
  return found


def of_sweep(folder: epath.Path) -> list[dict]:
  """For each run of a sweep that has started: its state, the scores of its last evaluation, and its speed."""
  sweep, found = saved.read_sweep(folder), []
  if sweep is None:
    raise UserError(f'{folder} has no sweep.json; expected the directory of a sweep')
  for name in sweep['runs']:
    status = saved.read_status(folder / name)
    if status:
      row = {'run': name, 'state': status['state'], 'step': status['step']}
      scored = [x for x in saved.read_rows(folder / name / 'metrics.jsonl') if 'eval/mean_iou' in x]
      row |= {x: 100 * scored[-1][f'eval/{x}'] for x in ('pixel_accuracy', 'mean_iou') if scored}
      found.append(row | of_run(folder / name))
  return found


def main(arguments: list[str]) -> None:
  """The command."""
  if len(arguments) != 1:
    raise UserError(f'expected the directory of a sweep; got {len(arguments)} arguments')
  for row in of_sweep(epath.Path(arguments[0])):
    rows.show(row)


if __name__ == '__main__':
  cli.run(main)
