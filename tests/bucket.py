"""A local server that implements the API of Google Cloud Storage, for runs in gs://bucket.

  python tests/bucket.py PORT

It is gcp-storage-emulator, in memory, with a header added: the generation of an object, which TensorStore requires to
write checkpoints.
"""

import sys

from gcp_storage_emulator.handlers import objects


def with_generation(handler):
  def answer(request, response, storage, *args, **kwargs):
    saved = storage.objects.get(request.params['bucket_name'], {}).get(request.params['object_id'], {})
    if 'generation' in saved:
      response['x-goog-generation'] = saved['generation']
    handler(request, response, storage, *args, **kwargs)

  return answer


objects.download, objects.get = with_generation(objects.download), with_generation(objects.get)

if __name__ == '__main__':
  from gcp_storage_emulator import server  # imported last, because it looks the handlers up

  server.create_server('localhost', int(sys.argv[1]), in_memory=True, default_bucket='bucket').run()
