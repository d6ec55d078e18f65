"""Fixtures of the tests of archives: preparing, refusing and serving a small Stanford Background archive."""

import functools
import http.server
import threading

import pytest
from small_stanford import COUNT, build, left_behind, pack

from fcn_jax.data.builders import stanford_background
from fcn_jax.errors import UserError


@pytest.fixture
def prepare(tmp_path, monkeypatch):
  """Prepares a small archive in tmp_path/data and returns the builder."""
  monkeypatch.setattr(stanford_background, 'IMAGES', COUNT)
  return functools.partial(build, tmp_path / 'data')


@pytest.fixture
def refused(prepare, tmp_path):
  """Tries to prepare a faulty archive and returns the message, which must be one line.

  Nothing may be left behind, and a good archive must work afterwards.
  """

  def refused(archive='', kind='regions'):
    with pytest.raises(UserError) as caught:
      prepare(archive, kind)
    message = str(caught.value)
    assert '\n' not in message and 'Error' not in message and len(message) < 600, message
    assert not left_behind(tmp_path / 'data')
    assert prepare(pack(tmp_path / 'good.tar.gz'), kind).is_prepared()
    return message

  return refused


@pytest.fixture
def serve(tmp_path, monkeypatch):
  """A server at `stanford_background.URL`: serve(status, body, length) sets its response; `asked` lists requests."""
  answer = {}

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
      self.do_HEAD()
      self.wfile.write(answer['body'])

    def do_HEAD(self):
      serve.asked.append(self.command)
      self.send_response(answer['status'])
      self.send_header('Content-Length', answer['length'])
      self.end_headers()

    def log_message(self, *_):
      pass

  def serve(status=200, body=b'', length=None):
    answer.update(status=status, body=body, length=str(len(body) if length is None else length))

  serve.asked = []
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
    monkeypatch.setattr(stanford_background, 'URL', f'http://127.0.0.1:{server.server_port}/data/iccv09Data.tar.gz')
    thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.05})
    thread.start()
    yield serve
    server.shutdown()
    thread.join()
