"""Measure a running `epalm-serve`: requests per second and latency by number of clients.

    epalm-serve runs/NAME --port 8000 &
    python -m bench.serving --image kitchen.png --question "what is on the desk?"

Each client sends its next request when it has the answer to the last one. Prints a table for
docs/explanation/benchmarks.md. A request that is not answered ends the measurement with an error.
"""

import argparse
import base64
import http.client
import json
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CLIENTS = (1, 8, 32)


def measure(address: str, body: bytes, *, clients: int, requests: int) -> tuple[list[float], float]:
    """Latency of each request, and the duration of all, seconds.

    Args:
        address: host and port.
        body: body of each request.
        clients: number of clients.
        requests: number of requests, shared among the clients.

    Raises:
        RuntimeError: a request was not answered.
    """

    def client(count: int) -> list[float]:
        connection = http.client.HTTPConnection(address, timeout=120)
        latencies = []
        for _ in range(count):
            started = time.perf_counter()
            headers = {"Content-Type": "application/json"}
            connection.request("POST", "/v1/chat/completions", body, headers)
            response = connection.getresponse()
            content = response.read()
            if response.status != 200:
                raise RuntimeError(f"status {response.status}: {content[:200]!r}")
            latencies.append(time.perf_counter() - started)
        connection.close()
        return latencies

    with ThreadPoolExecutor(clients) as threads:
        started = time.perf_counter()
        parts = list(threads.map(client, [requests // clients] * clients))
        seconds = time.perf_counter() - started
    return [latency for part in parts for latency in part], seconds


def row(latencies: Sequence[float], seconds: float, clients: int) -> str:
    """A row of the table."""
    percentiles = statistics.quantiles(latencies, n=100)
    return (
        f"| {clients} | {len(latencies)} | {len(latencies) / seconds:.1f} | "
        f"{1000 * percentiles[49]:.0f} | {1000 * percentiles[98]:.0f} |"
    )


def main(arguments: Sequence[str]) -> None:
    """Parse the command line, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default="127.0.0.1:8000")
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--question", required=True)
    parser.add_argument("--requests", type=int, default=640)
    options = parser.parse_args(arguments)
    url = f"data:;base64,{base64.b64encode(options.image.read_bytes()).decode('ascii')}"
    content = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": options.question},
    ]
    body = json.dumps({"messages": [{"role": "user", "content": content}]}).encode()
    measure(options.address, body, clients=4, requests=20)  # starts processes and threads
    lines = ["| clients | requests | requests/s | p50, ms | p99, ms |", "|" + "---|" * 5]
    for clients in CLIENTS:
        found = measure(options.address, body, clients=clients, requests=options.requests)
        lines.append(row(*found, clients))
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
