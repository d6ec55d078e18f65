"""Archives of data sets: found or downloaded, and read without extracting them. Their contents are not trusted."""

import contextlib
import pathlib
import re
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator

from etils import epath

from fcn_jax import files, image_files
from fcn_jax.data import records
from fcn_jax.errors import UserError

LARGEST = 2**24  # bytes of an image or a label, at most


class Builder(records.Builder, skip_registration=True):
  """The base of the builders that read archives; `archive` and `sbd_archive` are paths of local copies, or ''."""

  # Without this, TFDS does not look into its manual directory.
  MANUAL_DOWNLOAD_INSTRUCTIONS = 'Put the archives there, under their original file names.'

  def __init__(self, *, archive: str = '', sbd_archive: str = '', **kwargs):
    self._given = {'archive': archive, 'sbd_archive': sbd_archive}
    super().__init__(**kwargs)

  def read_archive(self, dl_manager, setting: str, url: str, read):
    """Returns `read(path)` of an archive: the one given, or the one in TFDS's manual directory, or a download.

    Args:
      dl_manager: the download manager of TFDS.
      setting: archive or sbd_archive: the setting with the path of a local copy.
      url: of the original; its last part is the file name.
      read: called with the path of the archive. If it raises a `UserError`, a downloaded archive is removed.

    Raises:
      UserError: the archive cannot be downloaded, or `read` refuses it.
    """
    if given := self._given[setting]:
      return read(files.path(given))
    path = None
    with contextlib.suppress(AssertionError):  # raised by TFDS if the folder is missing or empty
      path = dl_manager.manual_dir / pathlib.PurePosixPath(url).name
    if path is not None and path.is_file():
      return read(path)
    path = _download(dl_manager, dl_manager.download_dir / self.name, url, setting)
    try:
      return read(path)
    except UserError as error:
      for file in (path, path.with_name(f'{path.name}.INFO')):  # otherwise TFDS would use them again
        file.unlink(missing_ok=True)
      raise UserError(f'{error}. The archive was downloaded from {url}; it is removed: try again') from error


def _download(dl_manager, folder: epath.Path, url: str, setting: str) -> epath.Path:
  """Path of the archive, in `folder`, where TFDS also finds earlier downloads."""
  others = set(folder.glob('*.tmp.*'))  # possibly of another process that is downloading
  try:
    if not any(folder.glob('*.INFO')):
      # Without a connection, TFDS retries for minutes. An HTTP error is an answer, which TFDS handles.
      with contextlib.suppress(urllib.error.HTTPError):
        urllib.request.urlopen(urllib.request.Request(url, method='HEAD'), timeout=30).close()
    return dl_manager.download(url)
  except Exception as error:  # TFDS, requests and urllib3 each raise different exceptions
    for partial in set(folder.glob('*.tmp.*')) - others:
      partial.rmtree()
    cause = error
    while inner := cause.__cause__ or cause.__context__:
      cause = inner  # the first cause, such as 'Connection refused'
    raise UserError(
      f'cannot download {url}: {cause}. If you have the file, give its path: '
      f'--config.data.{setting}=/path/{pathlib.PurePosixPath(url).name}'
    ) from error


def members(path: epath.Path, wanted: re.Pattern, url: str) -> Iterator[tuple[str, bytes]]:
  """Yields name and content of the files in a tar archive whose names match `wanted`, in one pass, in their order.

  Raises:
    UserError: there is no such archive, it is incomplete, or one of its members would be extracted outside the folder.
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
        pass  # read up to the checksum at the end, which tarfile does not verify
  except FileNotFoundError as error:
    raise UserError(f'there is no archive {path}; expected a copy of {url}') from error
  except (OSError, EOFError, ValueError, tarfile.TarError, zlib.error) as error:
    reason = str(error).split('\n')[0].rstrip(':')  # the other lines list every compression that was tried
    raise UserError(f'cannot read {path} as a tar archive: {reason}; expected a copy of {url}') from error


def _safe_name(member: tarfile.TarInfo, path: epath.Path, url: str) -> str:
  """The name of a member. Raises: UserError: it is neither a file nor a folder, or would leave the folder."""
  name = pathlib.PurePosixPath(member.name)
  if name.is_absolute() or '..' in name.parts:
    found = 'would leave the folder'
  elif not (member.isfile() or member.isdir()):
    found = f'is a link to {member.linkname!r}' if member.issym() or member.islnk() else 'is a device or a pipe'
  else:
    return str(name)
  raise UserError(f'{path}: the member {member.name!r} {found}; expected plain files, as in {url}')


def size_of_jpeg(content: bytes, where: str) -> tuple[int, int]:
  """Height and width of an image in an archive.

  Raises:
    UserError: it is not a complete RGB JPEG; names it as `where`.
  """
  with image_files.opened(content, ('JPEG',), where) as image:
    image.load()
    if image.mode != 'RGB':
      raise ValueError(f'its color mode is {image.mode}; expected RGB')
    width, height = image.size
    return height, width
