"""A local server that speaks the API of Google Cloud Storage, for runs in gs://bucket.

  python tests/bucket.py PORT

It is gcp-storage-emulator, kept in memory, with the header added that tells the generation of an object: TensorStore,
which writes the checkpoints, builds on it.
"""

import sys

from gcp_storage_emulator.handlers import objects


def with_generation(handler):
  def answer(request, response, storage, *args, **kwargs):
    known = storage.objects.get(request.params['bucket_name'], {}).get(request.params['object_id'], {})
    if 'generation' in known:
      response['x-goog-generation'] = known['generation']
    handler(request, response, storage, *args, **kwargs)

  return answer


objects.download, objects.get = with_generation(objects.download), with_generation(objects.get)

if __name__ == '__main__':
  from gcp_storage_emulator import server  # looks the handlers up: not before they are changed

  server.create_server('localhost', int(sys.argv[1]), in_memory=True, default_bucket='bucket').run()
