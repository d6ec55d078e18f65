"""What was trained, as tables: the data, networks, settings, hardware and time; every run; every setting."""

import collections
import os
import urllib.parse

import pandas as pd

from fcn_jax.report import comparison, markup, tables
from fcn_jax.report.markup import Table
from fcn_jax.report.results import Result
from fcn_jax.run import progress

_RUN = ('run', 'state', 'seed', 'mean IoU', 'minutes', 'path')
_ABBREVIATIONS = [
  ('IoU', 'intersection over union: of the pixels that have a class in the label or the prediction, those with both'),
  ('mean IoU', 'the mean of the IoU of the classes (--metric=mean_iou)'),
  ('fw IoU', 'frequency-weighted IoU: the mean weighted by the labeled pixels of each class (--metric=fw_iou)'),
  ('pixel accuracy', 'the fraction of labeled pixels that are correct (--metric=pixel_accuracy)'),
  ('mean accuracy', 'the mean over classes of the fraction of their pixels that are correct (--metric=mean_accuracy)'),
  (
    'mean precision',
    'the mean over classes of the fraction of predicted pixels that are correct (--metric=mean_precision)',
  ),
  ('mean F1', 'the mean over classes of F1 (Dice), see precision and recall (--metric=mean_f1)'),
  ('points', 'percentage points'),
  ('px', 'pixels'),
  ('M', 'million'),
  ('GFLOP', '10^9 floating-point operations'),
]


def about(runs: list[Result]) -> str:
  """How many runs are done, and how many have warnings."""
  warned = sum(bool(run.warnings) for run in runs)
  of = f'{warned} of {len(runs)} runs {"has" if warned == 1 else "have"}' if len(runs) > 1 else 'It has'
  return _done(runs) + (f' {of} warnings: see "Warnings of runs".' if warned else '')


def _done(runs: list[Result]) -> str:
  counts = collections.Counter(run.state for run in runs)
  unfinished = ', '.join(f'{count} {state}' for state, count in counts.items() if state != 'done')
  if unfinished:
    return f'{counts["done"]} of {len(runs)} runs are done ({unfinished}).'
  return f'All {len(runs)} runs are done.' if len(runs) > 1 else 'The run is done.'


def trained(runs: list[Result], checkpoint: str) -> Table:
  """What the runs that are done have in common; several values where they differ."""
  done = [run for run in runs if run.done]
  starts = [run.environment for run in done if run.environment]
  folds = tables.folds_of(done)
  several = len(folds) > 1  # in a cross-validation, each fold has a fingerprint
  data = (start['data'].rpartition(' ')[0] if several else start['data'] for start in starts)
  commits = (f'{start["commit"][:7]}{" with local changes" if start["dirty"] else ""}' for start in starts)
  minutes = [run.costs['minutes'] for run in done if 'minutes' in run.costs]
  timed = markup.counted(len(minutes), 'run')
  days = sorted({start['time'][:10] for start in starts})
  split = next((run.split for run in done), '')
  scored = (
    f'{tables.images(runs)} images of {split}{f" in {len(folds)} folds" if several else ""}, {checkpoint} checkpoint'
  )
  lines = [
    ('data', _listed(data)),
    ('scored', scored if done else ''),
    ('network', '; '.join(dict.fromkeys(map(_network, done)))),
    ('width', _setting(done, 'model.width')),
    ('steps', _setting(done, 'train.steps')),
    ('batch size', _setting(done, 'train.batch_size')),
    ('optimizer', _setting(done, 'optim.name')),
    ('learning rate', _setting(done, 'optim.lr')),
    ('command of the first run', starts[0]['command'] if starts else ''),
    ('hardware per run', _listed(map(_hardware, starts))),
    ('training time', f'{progress.duration(60 * sum(minutes))} for {timed}' if minutes else ''),
    ('commit', _listed(commits)),
    ('date', ' to '.join(dict.fromkeys((days[0], days[-1]))) if days else ''),
  ]
  return Table('What was trained', '', ['property', 'value'], [[name, text] for name, text in lines if text])


def _network(run: Result) -> str:
  name, backbone = run.settings['model.name'], run.settings.get('model.backbone')
  return f'{name}, backbone {backbone}' if backbone else name


def _setting(runs: list[Result], field: str) -> str:
  return _listed(run.settings[field] for run in runs if field in run.settings)


def _listed(values) -> str:
  return ', '.join(dict.fromkeys(map(str, values)))


def _hardware(start: dict) -> str:
  kind, count = start['device'], start['devices']
  return markup.counted(count, f'{"CPU" if kind == "cpu" else kind} device')


def settings(runs: list[Result]) -> Table:
  """The settings that all runs share, without those that cannot change scores."""
  compared = [run for run in runs if comparison.comparable(run)]
  varying = {*comparison.varying(runs), 'seed'}
  shared = {field: value for run in compared[:1] for field, value in run.settings.items() if field not in varying}
  lines = [[field, 'none' if value in ('', ()) else str(value)] for field, value in sorted(shared.items())]
  title = 'Settings that all runs share' if len(runs) > 1 else 'Settings'
  return Table(title, '', ['setting', 'value'], lines, folded=True)


def pages(runs: list[Result]) -> list[tuple[Result, str]]:
  """The runs of a report that have a page, if it is on several runs, with its path in the folder of the report."""
  return [(run, f'runs/{run.name}.html') for run in comparison.scored(runs)] if len(runs) > 1 else []


def listed(runs: list[Result]) -> Table:
  """One line per run; its name is a link to its page, if it has one."""
  fields = comparison.varying(runs)
  heads = [*map(comparison.short, fields)]
  if len({*heads, *_RUN}) < len(heads) + len(_RUN):
    heads = fields
  lines, links, addresses = [], {}, {run.name: address for run, address in pages(runs)}
  for number, run in enumerate(runs):
    score, minutes = run.scores.get('mean_iou'), run.costs.get('minutes')
    texts = comparison.texts(fields, tuple(run.settings.get(f) for f in fields), [run]) if run.settings else []
    seed = str(run.seed) if run.settings else ''
    numbers = ['' if score is None else f'{100 * score:.2f}', '' if minutes is None else f'{minutes:.1f}']
    lines.append([run.name, run.state, *(texts or [''] * len(fields)), seed, *numbers, str(run.path)])
    if address := addresses.get(run.name):
      links[number, 0] = urllib.parse.quote(os.fsencode(address))
  note = 'On the page, a name is a link to a page of the run. python -m fcn_jax.report PATH writes one with figures.'
  head = [*_RUN[:2], *heads, *_RUN[2:]]
  return Table('Runs', note if links else '', head, lines, folded=True, links=links)


def abbreviations() -> Table:
  """What the metrics and units are."""
  return Table('Abbreviations', '', ['name', 'meaning'], [list(line) for line in _ABBREVIATIONS], folded=True)


def frame(runs: list[Result]) -> pd.DataFrame:
  """One row per run: name, state, varying settings, seed, stride in pixels, all metrics, bands, costs, and faults."""
  fields = [*comparison.varying(runs), 'seed']
  rows = [
    {'run': run.name, 'state': run.state, 'fault': '; '.join(run.faults)}
    | {field: run.settings.get(field) for field in fields}
    | {'stride_px': run.stride_px if run.settings else None}
    | run.scores
    | {f'mean_iou_within_{width}_px': x for width, x in run.bands.items()}
    | run.costs
    for run in runs
  ]
  text = pd.DataFrame([{name: markup.printable(x) if isinstance(x, str) else x for name, x in r.items()} for r in rows])
  whole = {name: 'Int64' for name in ('parameters', 'stride_px', 'seed') if name in text}
  return text.astype(whole).rename(columns=markup.printable)


def csv(runs: list[Result]) -> str:
  """`frame` as CSV; fractions and costs have six significant digits."""
  return frame(runs).to_csv(index=False, float_format='%.6g')
