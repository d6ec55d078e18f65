"""Weights files with a name are downloaded once, into the cache, and checked."""

import functools
import hashlib
import http.server
import threading

import pytest
import tiny
import weight_formats
from weight_formats import config_for, network

from fcn_jax.errors import UserError
from fcn_jax.weights import match


@pytest.fixture
def server(tmp_path):
  """A folder, the URL under which its files are served, and the list of requests."""
  requests = []

  class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
      requests.append(self.path)

  folder = tmp_path / 'served'
  folder.mkdir()
  running = http.server.ThreadingHTTPServer(('localhost', 0), functools.partial(Handler, directory=folder))
  threading.Thread(target=running.serve_forever).start()
  yield folder, f'http://localhost:{running.server_port}', requests
  running.shutdown()
  running.server_close()


def test_a_file_is_downloaded_once_and_checked(tmp_path, monkeypatch, server):
  folder, url, requests = server
  config = config_for(8)
  weight_formats.write_keras(folder / 'vgg16.h5', network(config)[1])
  digest = hashlib.md5((folder / 'vgg16.h5').read_bytes()).hexdigest()
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  monkeypatch.setitem(match.KNOWN, 'small', (f'{url}/vgg16.h5', f'md5:{digest}'))
  for _ in range(2):
    assert len(match.read('small').tensors) == 30
  assert requests == ['/vgg16.h5']

  monkeypatch.setitem(match.KNOWN, 'small', (f'{url}/vgg16.h5', f'md5:{"0" * 32}'))
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'another'))
  with pytest.raises(UserError, match=r'cannot download http://localhost.*hash'):
    match.read('small')
  assert not list((tmp_path / 'another').rglob('*vgg16*'))

  port = tiny.free_port()
  monkeypatch.setitem(match.KNOWN, 'small', (f'http://localhost:{port}/vgg16.h5', f'md5:{digest}'))
  with pytest.raises(
    UserError, match=r"cannot download .*move it to .*another/fcn_jax/weights, or give its path instead of 'small'"
  ):
    match.read('small')


def test_vgg16_has_a_url_and_a_checksum():
  url, checksum = match.KNOWN['vgg16']
  assert url.startswith('https://') and checksum.startswith('md5:') and len(checksum) == 36
