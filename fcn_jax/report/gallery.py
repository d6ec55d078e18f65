"""Images with the labels, predictions and errors of a few networks: where these differ most, the worst and the best."""

import io

import numpy as np
from PIL import Image

from fcn_jax import confusions, files, images
from fcn_jax.data.dataset import IGNORE
from fcn_jax.errors import UserError
from fcn_jax.report import tables
from fcn_jax.report.comparison import by_fold
from fcn_jax.report.markup import html
from fcn_jax.report.page import image_tag, section_of
from fcn_jax.report.results import Result
from fcn_jax.report.tables import Networks

_NETWORKS = 3  # that are shown
_EACH = 2  # images of each kind
_LONGEST = 320  # pixels of the longer side
_RIGHT, _WRONG, _GRAY = (255, 255, 255), (214, 39, 40), (160, 160, 160)


def gallery(networks: Networks) -> str:
  """The same images for a few networks, from the best to the worst: a section of the page; '' without common images."""
  runs, fold = _runs(networks)
  ious = {text: _ious(run) for text, run in runs.items()}
  shown = choose(ious)
  if not shown:
    return ''
  first = next(iter(runs.values()))
  cells = [f'<span>{html(text)}</span>' for text in ('image', 'label')]
  for text in runs:
    cells += [f'<span>{html(text)}</span>', f'<span>errors of {html(text)}</span>']
  for name, reason in shown.items():
    cells.append(f'<p class="reason">{html(name)}: {html(reason)}</p>')
    cells += _source(first, name)
    for text, run in runs.items():
      cells += _prediction(run, name, text, ious[text][name])
  columns = 2 + 2 * len(runs)
  grid = f'<div class="gallery" style="grid-template-columns: repeat({columns}, auto)">{"".join(cells)}</div>'
  some = f'{len(runs)} of {len(networks)} networks, from the best to the worst' if len(runs) > 1 else 'The network'
  note = (
    f'From the images whose predictions the last evaluation kept. {some}, with the predictions of the first run'
    f'{fold and f" on {fold}"}; below a prediction is the mean IoU of the image. Click an image to enlarge it.'
  )
  return section_of('Sample predictions', note, f'{_legend(first)}<div class="wide">{grid}</div>')


def _runs(networks: Networks) -> tuple[dict[str, Result], str]:
  """The first run of each network that is shown, best first, on a fold that all networks have; and this fold."""
  found = {text: by_fold(members) for text, members in networks.items()}
  folds = next(iter(found.values()), {})
  fold = next((fold for fold in folds if all(fold in of for of in found.values())), None)
  if fold is None:
    return {}, ''
  runs = {text: of[fold][0] for text, of in found.items() if of[fold][0].examples}
  ranked = sorted(runs, key=lambda text: -np.mean([s['mean_iou'] for s in tables.pooled(networks[text])]))
  kept = np.linspace(0, len(ranked) - 1, min(_NETWORKS, len(ranked))).round().astype(int)
  return {ranked[i]: runs[ranked[i]] for i in kept}, fold


def _ious(run: Result) -> dict[str, float]:
  """Mean IoU of each image that has files, by its id; images without a labeled pixel are left out."""
  scores, _ = confusions.of_images(run.confusion)
  found = {name: float(score) for name, score in zip(run.ids, scores, strict=True) if not np.isnan(score)}
  return {name: found[name] for name in run.examples if name in found}


def choose(ious: dict[str, dict[str, float]]) -> dict[str, str]:
  """The images to show, with the reason: where networks differ most, then the worst, then the best.

  Args:
    ious: mean IoU by image, by network.
  """
  common = sorted(set.intersection(*map(set, ious.values()))) if ious else []
  means = {name: np.mean([of[name] for of in ious.values()]) for name in common}
  spreads = {name: np.ptp([of[name] for of in ious.values()]) for name in common}
  out = {}
  for values, sign, reason in (
    (spreads, -1, 'networks differ most'),
    (means, 1, 'among the worst'),
    (means, -1, 'among the best'),
  ):
    left = [name for name in common if name not in out]
    for name in sorted(left, key=lambda name: sign * values[name])[:_EACH] if values is means or len(ious) > 1 else ():
      apart = f', {100 * spreads[name]:.1f} points apart' if len(ious) > 1 else ''
      out[name] = f'{reason} (mean IoU {100 * means[name]:.1f} %{apart})'
  return out


def _source(run: Result, name: str) -> list[str]:
  folder = run.examples[name]
  return [
    _shown(lambda: _opened(folder / f'{name}.image.jpg').convert('RGB'), f'image {name}', 'jpeg'),
    _shown(lambda: _opened(folder / f'{name}.label.png'), f'label of {name}'),
  ]


def _prediction(run: Result, name: str, text: str, iou: float) -> list[str]:
  predicted = run.examples_folder / f'{name}.prediction.png'
  label = run.examples[name] / f'{name}.label.png'
  cells = [
    _shown(lambda: _opened(predicted), f'prediction for {name} by {text}'),
    _shown(lambda: _errors(_opened(label), _opened(predicted)), f'errors for {name} by {text}'),
  ]
  return [f'<div>{cells[0]}<small>{100 * iou:.1f} %</small></div>', cells[1]]


def _errors(label: Image.Image, prediction: Image.Image) -> Image.Image:
  """White where the prediction is right, red where it is wrong, gray where the label is ignored."""
  size = label.size
  wanted, given = np.asarray(label), np.asarray(prediction.resize(size, Image.Resampling.NEAREST))
  colors = np.where((wanted == given)[..., None], _RIGHT, _WRONG)
  return Image.fromarray(np.where((wanted == IGNORE)[..., None], _GRAY, colors).astype(np.uint8))


def _opened(path) -> Image.Image:
  return Image.open(io.BytesIO(files.read(path)))


def _shown(read, text: str, form: str = 'png') -> str:
  """An image of at most `_LONGEST` pixels, or the reason why it cannot be read."""
  try:
    image = read()
    scale = _LONGEST / max(image.size)
    if scale < 1:
      smooth = Image.Resampling.LANCZOS if form == 'jpeg' else Image.Resampling.NEAREST
      image = image.resize([max(round(side * scale), 1) for side in image.size], smooth)
    return image_tag(images.encoded(image, form), f'x.{form}', text)
  except (UserError, OSError, ValueError) as error:
    return f'<span>{html(str(error))}</span>'


def _legend(run: Result) -> str:
  """The classes and their colors, and the colors of ignored pixels and of errors."""
  colors = [*run.classes, ('ignored, in labels', images.IGNORED)]
  colors += [('right, in errors', _RIGHT), ('wrong', _WRONG), ('ignored, in errors', _GRAY)]
  items = [f'<span><i style="background: rgb{tuple(color)}"></i>{html(name)}</span>' for name, color in colors]
  return f'<p class="legend">{"".join(items)}</p>'
