"""Ray nodes on this machine, as a process: prints their addresses and raylets' process ids.

Its argument says how many. The line `node` on its standard input has the last node lost, `head`
what makes the first one the head, and each is answered; at its end all end. What they print on the
way stays out of the tests' process.
"""

from __future__ import annotations

import json
import socket
import sys

from ray.cluster_utils import Cluster

#: Bytes; the least that Ray takes.
_STORE = 80 * 2**20


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def main() -> None:
    """Start the nodes, and serve."""
    node = {"num_cpus": 1, "object_store_memory": _STORE}
    head = {**node, "include_dashboard": False, "ray_client_server_port": free_port()}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.head_node, *(cluster.add_node(**node) for _ in range(int(sys.argv[1]) - 1))]
    raylets = [one.all_processes["raylet"][0].process.pid for one in nodes]
    outside = f"ray://127.0.0.1:{head['ray_client_server_port']}"
    say(json.dumps({"address": cluster.address, "outside": outside, "raylets": raylets}))
    for line in sys.stdin:
        if line.strip() == "head":
            cluster.head_node.kill_gcs_server()
        else:
            cluster.remove_node(nodes.pop(), allow_graceful=False)
        say("lost")
    cluster.shutdown()


if __name__ == "__main__":
    main()
