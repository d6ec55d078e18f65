import pytest

from fcn_jax.report import figures


@pytest.fixture
def without_plots(monkeypatch):
  """Makes reports without figures, which take most of the time."""
  for name in ('curves', 'intervals', 'kernels', 'confusions'):
    monkeypatch.setattr(figures, name, lambda *_: None)
