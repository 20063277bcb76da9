"""Three Ray nodes on this machine, as a process: prints their address and raylets' process ids.

Each line on its standard input has the last node lost, and is answered; at its end all end. What
they print on the way stays out of the tests' process.
"""

from __future__ import annotations

import json
import sys

from ray.cluster_utils import Cluster

#: Bytes; the least that Ray takes.
_STORE = 80 * 2**20


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    """Start the nodes, and serve."""
    node = {"num_cpus": 1, "object_store_memory": _STORE}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    nodes = [cluster.head_node, *(cluster.add_node(**node) for _ in range(2))]
    raylets = [one.all_processes["raylet"][0].process.pid for one in nodes]
    say(json.dumps({"address": cluster.address, "raylets": raylets}))
    for _ in sys.stdin:
        cluster.remove_node(nodes.pop(), allow_graceful=False)
        say("lost")
    cluster.shutdown()


if __name__ == "__main__":
    main()
