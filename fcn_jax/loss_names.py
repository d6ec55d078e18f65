"""What the settings `loss.name` and `loss.balance` may be. Nothing here imports jax."""

import re

from fcn_jax.errors import UserError, nearest

NAMES = ('cross_entropy', 'focal', 'dice')
BALANCES = ('none', 'inverse', 'median_frequency')


def terms(name: str) -> dict[str, float]:
  """The factor of each loss in the setting `loss.name`, as in 'cross_entropy+0.5*dice'.

  A name with a dot is the dotted path of a function of the user, which is not imported here.

  Raises:
    UserError: one of them does not exist, is repeated, or has a factor that is not a positive number.
  """
  found: dict[str, float] = {}
  for term in name.split('+'):
    match = re.fullmatch(r'(?:(\d+\.?\d*|\.\d+)\*)?([^\W\d]\w*(?:\.\w+)*)', term.strip())
    if not match or not (match[2] in NAMES or '.' in match[2]) or match[2] in found or float(match[1] or 1) == 0:
      raise UserError(
        f'loss.name is {name!r}{nearest(match[2] if match else term, NAMES)}, or the dotted path of a function, each '
        'once, joined by + and with factors, as in cross_entropy+0.5*dice'
      )
    found[match[2]] = float(match[1] or 1)
  return found


def numbers(balance: str) -> list[float]:
  """The weights in the setting `loss.balance`. Raises: UserError: it is neither a name nor a list of numbers."""
  try:
    found = [float(x) for x in balance.split(',')]
  except ValueError as error:
    raise UserError(
      f'loss.balance is {balance!r}{nearest(balance, BALANCES)}, or a number per class: 1,2.5,1'
    ) from error
  if not all(0 <= x < float('inf') for x in found) or not any(found):
    raise UserError(f'loss.balance is {balance!r}; expected numbers of 0 or more, and one above 0')
  return found
