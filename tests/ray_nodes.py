"""A Ray cluster on this machine: a head node without cores, and worker nodes with one core and two fake TPU chips.

  python tests/ray_nodes.py NODES

Prints the address of the cluster and runs until the end of its input. For each line of input it kills the oldest
worker node, adds a new one, and then prints `lost`.
"""

import sys

from ray.cluster_utils import Cluster

SMALL = {'object_store_memory': 100 * 2**20}


def main(count: int) -> None:
  cluster = Cluster(initialize_head=True, head_node_args={'num_cpus': 0, 'include_dashboard': False} | SMALL)

  def add():
    return cluster.add_node(num_cpus=1, resources={'TPU': 2}, **SMALL)

  nodes = [add() for _ in range(count)]
  print(cluster.address, flush=True)
  for _ in sys.stdin:
    cluster.remove_node(nodes.pop(0), allow_graceful=False)
    nodes.append(add())
    print('lost', flush=True)
  cluster.shutdown()


if __name__ == '__main__':
  main(int(sys.argv[1]))
