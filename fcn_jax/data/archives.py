"""Archives of data sets: found or downloaded, and read where they lie. They are not trusted."""

import contextlib
import io
import pathlib
import re
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator

from etils import epath
from PIL import Image

from fcn_jax.errors import UserError

LARGEST = 2**24  # bytes that a picture or a label may have


def with_archive(dl_manager, name: str, *, given: str, url: str, setting: str, read):
  """`read(path)` of an archive that was named, or lies in TFDS's manual directory, or is downloaded, in this order.

  Args:
    dl_manager: of TFDS.
    name: of the data set, and of the folder of its download.
    given: path of a local copy, or ''.
    url: of the original, whose last part is the name of the file.
    setting: the one that `given` comes from, for the reader of an error.
    read: raises `UserError` where the archive is not what it should be; a download is then removed.
  """
  path = epath.Path(given).expanduser()
  if not given:
    with contextlib.suppress(AssertionError):  # TFDS's way to say that there is no such folder, or nothing in it
      path = dl_manager.manual_dir / pathlib.PurePosixPath(url).name
  if given or path.is_file():
    return read(path)
  path = _download(dl_manager, dl_manager.download_dir / name, url, setting)
  try:
    return read(path)
  except UserError as error:
    for file in (path, path.with_name(f'{path.name}.INFO')):  # else TFDS would take them for good the next time
      file.unlink(missing_ok=True)
    raise UserError(f'{error}. This is what {url} sent; it is removed, so that it can be tried again') from error


def _download(dl_manager, folder: epath.Path, url: str, setting: str) -> epath.Path:
  """Path of the archive, in `folder`, where TFDS also finds what it downloaded before."""
  others = set(folder.glob('*.tmp.*'))  # perhaps of a process that is downloading just now
  try:
    if not any(folder.glob('*.INFO')):
      # Offline, TFDS alone would try for minutes. An HTTP error is an answer too, which it deals with.
      with contextlib.suppress(urllib.error.HTTPError):
        urllib.request.urlopen(urllib.request.Request(url, method='HEAD'), timeout=30).close()
    return dl_manager.download(url)
  except Exception as error:  # TFDS, requests and urllib3 have each their own, but there is one thing to say
    for partial in set(folder.glob('*.tmp.*')) - others:
      partial.rmtree()
    cause = error
    while inner := cause.__cause__ or cause.__context__:
      cause = inner  # 'Connection refused', without the layers around it
    raise UserError(
      f'cannot download {url}: {cause}. If you have the file, give its place: '
      f'--config.{setting}=/path/{pathlib.PurePosixPath(url).name}'
    ) from error


def members(path: epath.Path, wanted: re.Pattern, url: str) -> Iterator[tuple[str, bytes]]:
  """Name and content of the files of a tar archive whose names are wanted, in one pass, in their order.

  Raises:
    UserError: there is no such archive, it is not whole, or one of its members would not stay in its folder.
  """
  try:
    with path.open('rb') as file, tarfile.open(fileobj=file) as archive:
      for member in archive:
        name = _safe_name(member, path, url)
        if wanted.fullmatch(name) and member.isfile():
          if member.size > LARGEST:
            raise UserError(f'{path}: {name} has {member.size} bytes; expected at most {LARGEST}')
          yield name, archive.extractfile(member).read()
      while archive.fileobj.read(2**20):
        pass  # up to the checksum at the end, which tarfile does not reach
  except FileNotFoundError as error:
    raise UserError(f'there is no archive {path}; expected a copy of {url}') from error
  except (OSError, EOFError, ValueError, tarfile.TarError, zlib.error) as error:
    reason = str(error).split('\n')[0].rstrip(':')  # the other lines tell of each compression that it is not
    raise UserError(f'cannot read {path} as a tar archive: {reason}; expected a copy of {url}') from error


def _safe_name(member: tarfile.TarInfo, path: epath.Path, url: str) -> str:
  """The name of a file or folder; one that would not stay in its folder if it were extracted is refused."""
  name = pathlib.PurePosixPath(member.name)
  if name.is_absolute() or '..' in name.parts:
    found = 'would leave the folder'
  elif not (member.isfile() or member.isdir()):
    found = f'is a link to {member.linkname!r}' if member.issym() or member.islnk() else 'is a device or a pipe'
  else:
    return str(name)
  raise UserError(f'{path}: the member {member.name!r} {found}; expected plain files, as in {url}')


def jpeg_size(image: bytes, where: str) -> tuple[int, int]:
  """Width and height of a JPEG picture in colour, which is decoded to see that it can be."""
  try:
    with Image.open(io.BytesIO(image), formats=['JPEG']) as opened:
      opened.load()
  except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
    raise UserError(f'{where} holds {len(image)} bytes that do not decode; expected a whole JPEG picture') from error
  if opened.mode != 'RGB':
    raise UserError(f'{where} has the colours {opened.mode}; expected RGB')
  return opened.size
