"""What intake costs beyond what cannot be avoided, how fast rows reach the catalog, and whether memory grows: ratios against limits.

    .venv/jobs/bin/python benchmarks/intake.py [--scans 100] [--parts floor,workers,rows,memory] [--store folder|http] [--memory-scans 1000,100000]

floor    Scans of 768 x 1024 pixels, two energies of 16 bits, in each format. The floor is one process that reads, hashes, decodes, encodes and
         writes them, nothing else. The job is `scanloop ingest shard`: its processes and their start, the confined reader, statistics, comparison
         of what was written, the ledger, the publication, the receipt and the transaction. Both in seconds of processor time, the least of
         --repeats, all processes of each on one and the same core; over HTTP the server's time is not counted. Limit: 0.8 of the floor over all
         formats together. Over HTTP the floor is that of boto3 as it comes.
workers  The same scans by one and by two shards at a time, by the clock.
rows     Rows that a publication brings into the catalog, audit entries included, against 50,000 a second.
memory   Largest resident size of the job and of its reader for small and large numbers of small scans. Limit: 1.15 times that of the smallest number.

Exits 1 if a limit is missed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

HEIGHT_PX, WIDTH_PX = 768, 1024
FORMATS = ("explicit", "rle", "jpeg-lossless", "tiff", "png")
FLOOR_LIMIT, ROWS_LIMIT, MEMORY_LIMIT = 0.8, 50_000, 1.15


def main() -> None:
    """Measure what was asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=100, help="Scans of each format.")
    parser.add_argument("--repeats", type=int, default=1, help="How often floor and job are measured; the least counts.")
    parser.add_argument("--parts", default="floor,workers,rows,memory")
    parser.add_argument("--store", choices=("folder", "http"), default="folder")
    parser.add_argument("--memory-scans", default="1000,10000")
    chosen = parser.parse_args()
    parts, missed = chosen.parts.split(","), []
    with (
        tempfile.TemporaryDirectory(prefix="scanloop-bench-") as name,
        _object_store(chosen.store) as server,
        _catalog(Path(name)) as make_catalog,
    ):
        bench = Bench(Path(name), server, make_catalog)
        if "floor" in parts or "workers" in parts:
            files = {kind: _files(kind, chosen.scans) for kind in FORMATS}
            if "floor" in parts:
                missed += floor(bench, files, chosen.repeats)
            if "workers" in parts:
                workers(bench, files)
        if "rows" in parts:
            missed += rows(bench)
        if "memory" in parts:
            missed += memory(bench, [int(count) for count in chosen.memory_scans.split(",")])
    print("limits missed: " + ", ".join(missed) if missed else "every limit kept")
    sys.exit(bool(missed))


class Bench:
    """Deployments to measure, each new and empty."""

    def __init__(self, folder: Path, server: str | None, make_catalog: Any) -> None:
        self.folder, self.server, self.make_catalog, self.made = folder, server, make_catalog, 0

    def deployment(self) -> dict[str, str]:
        """Environment of the commands of a new deployment. The one before goes: a machine whose memory fills up pays for pages more and more."""
        shutil.rmtree(self.folder / f"home-{self.made}", ignore_errors=True)
        if self.server is not None:
            urllib.request.urlopen(urllib.request.Request(f"{self.server}/moto-api/reset", method="POST"), timeout=60).close()
        self.made += 1
        home = self.folder / f"home-{self.made}"
        home.mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SCANLOOP_")}
        found = kept | {"SCANLOOP_HOME": str(home), "SCANLOOP_DATABASE_URL": self.make_catalog(), "SCANLOOP_PROGRESS": "log"}
        for name in ("store", "landing"):
            url = (home / name).as_uri() if self.server is None else f"s3://{self._bucket(name)}/x?endpoint_url={self.server}"
            found[f"SCANLOOP_{name.upper()}_URL"] = url
        return found

    def _bucket(self, name: str) -> str:
        import boto3

        bucket = f"{name}-{self.made}"
        boto3.client("s3", endpoint_url=self.server).create_bucket(Bucket=bucket)
        return bucket


def command(environment: dict[str, str], *words: str) -> tuple[dict[str, Any], float]:
    """Run `scanloop`; returns its result and the processor time of it and of every process it started, in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [Path(sys.executable).with_name("scanloop"), *words], env=environment, capture_output=True, text=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"scanloop {' '.join(words)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1]), after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def deliver(environment: dict[str, str], files: dict[str, list[tuple[bytes, bytes | None]]], scanners: int = 4) -> int:
    """Put files into the landing zone, sidecars first; returns how many."""
    from scanloop.store import open_store

    landing, count = open_store(environment["SCANLOOP_LANDING_URL"]), 0
    for kind, members in files.items():
        for number, (content, about) in enumerate(members):
            key = f"site/{number % scanners}/2026-03-01/{kind}-{number:06d}"
            if about is not None:
                landing.put(f"{key}.json", about)
            landing.put(key, content)
            count += 1
    return count


def floor(bench: Bench, files: dict[str, list[tuple[bytes, bytes | None]]], repeats: int) -> list[str]:
    """Print job against floor for each format and for all together."""
    start = _start(bench)
    print(f"{'format':<14} {'file kB':>8} {'floor ms':>9} {'job ms':>8} {'floor/job':>9} {'without start':>13} {'scans/s a core':>14}")
    for kind, members in files.items():
        measured = min(_floor_of(bench, {kind: members}) for _ in range(repeats))
        job = min(_job_of(bench, {kind: members}) for _ in range(repeats))
        size = sum(len(content) for content, _ in members) / len(members) / 1000
        each = f"{1000 * measured / len(members):>9.1f} {1000 * job / len(members):>8.1f} {measured / job:>9.2f}"
        print(f"{kind:<14} {size:>8.0f} {each} {measured / (job - start):>13.2f} {len(members) / job:>14.1f}", flush=True)
    scans = sum(map(len, files.values()))
    floors, together = (min(of(bench, files) for _ in range(repeats)) for of in (_floor_of, _job_of))
    ratio = floors / together
    each = f"floor {1000 * floors / scans:.1f} ms, job {1000 * together / scans:.1f} ms a scan"
    print(f"all formats together: {each}, {scans / together:.1f} scans a second and core")
    where = "HTTP" if bench.server else "folder"
    print(f"floor/job {ratio:.2f}, limit {FLOOR_LIMIT}; {scans} scans, of which starting takes {start:.2f} s; {where}")
    return [] if ratio >= FLOOR_LIMIT else ["floor"]


@contextmanager
def _one_core() -> Iterator[None]:
    """Processes started meanwhile share one core: two that run at the same time would slow each other down, and processor time would count it."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def _start(bench: Bench) -> float:
    """Processor time of a shard job that has nothing to receive."""
    environment = bench.deployment()
    with _one_core():
        return command(environment, "ingest", "shard", "--shard=00/01", "--run-id=empty")[1]


def _floor_of(bench: Bench, files: dict[str, list[tuple[bytes, bytes | None]]]) -> float:
    """Processor time of read, hash, decode, encode and write, in a process of its own with one thread."""
    environment = bench.deployment()
    deliver(environment, files)
    script = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import intake; intake.bare()"
    single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with _one_core():
        done = subprocess.run([sys.executable, "-c", script], env=environment | single, capture_output=True, text=True, check=True)
    return float(done.stdout)


def bare() -> None:
    """The floor. Prints its seconds of processor time, without the start of Python and its imports."""
    import imagecodecs  # noqa: F401  as the job's reader does before its first file
    import tifffile  # noqa: F401

    from scanloop.scans.decode import read_scan
    from scanloop.scans.planes import encode_planes
    from scanloop.store import open_store

    landing = open_store(os.environ["SCANLOOP_LANDING_URL"])
    keys = [found.key for found in landing.list() if not found.key.endswith(".json")]
    sidecars = {found.key for found in landing.list() if found.key.endswith(".json")}
    out = Path(tempfile.mkdtemp(dir=os.environ["SCANLOOP_HOME"]))
    read, write = landing.get, lambda name, data: (out / name).write_bytes(data)
    if landing.url.startswith("s3:"):
        read, write = _plain_boto3(landing)

    import pydicom.charset
    import pydicom.datadict
    import pydicom.filereader  # noqa: F401

    began = time.process_time()
    for key in keys:
        content = read(key)
        about = read(f"{key}.json") if f"{key}.json" in sidecars else None
        digest = hashlib.sha256(content).hexdigest()
        scan = read_scan(content, about)
        write(digest, content)
        write(f"{digest}.tiff", encode_planes(scan.planes, scan.bits))
    print(time.process_time() - began)


def _plain_boto3(landing: Any) -> tuple[Any, Any]:
    """Read and write with boto3 as it comes."""
    import boto3

    s3 = boto3.client("s3", endpoint_url=landing._client.meta.endpoint_url)
    where = {"Bucket": landing.bucket}
    return (
        lambda key: s3.get_object(Key=landing.prefix + key, **where)["Body"].read(),
        lambda name, data: s3.put_object(Key=landing.prefix + name, Body=data, **where),
    )


def _job_of(bench: Bench, files: dict[str, list[tuple[bytes, bytes | None]]]) -> float:
    """Processor time of one shard job over these files."""
    environment = bench.deployment()
    count = deliver(environment, files)
    command(environment, "ingest", "plan", "--max-shards=1", "--run-id=r")
    with _one_core():
        result, seconds = command(environment, "ingest", "shard", "--shard=00/01", "--run-id=r")
    if result["scans"] != count:
        raise SystemExit(f"{count} scans were delivered, {result} came of it")
    return seconds


def workers(bench: Bench, files: dict[str, list[tuple[bytes, bytes | None]]]) -> None:
    """Print how long one and two jobs at a time take for the same scans."""
    taken = {}
    for number in (1, 2):
        environment = bench.deployment()
        count = deliver(environment, files, scanners=16)
        plan, _ = command(environment, "ingest", "plan", f"--max-shards={number}", "--run-id=r")
        began = time.monotonic()
        threads = [
            threading.Thread(target=command, args=(environment, "ingest", "shard", f"--shard={shard}", "--run-id=r"))
            for shard in plan["shards"]
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        taken[number] = time.monotonic() - began
        whole = time.monotonic()
        acknowledged, _ = command(environment, "ingest", "acknowledge", "--run-id=r")
        print(f"{len(plan['shards'])} worker{'s' * (number > 1)}: {count / taken[number]:.1f} scans/s by the clock, on {os.cpu_count()} cores; "
              f"acknowledging {acknowledged['acknowledged']} objects {time.monotonic() - whole:.1f} s")  # fmt: skip
    print(f"two workers are {taken[1] / taken[2]:.2f} times as fast as one")


def rows(bench: Bench) -> list[str]:
    """Print how fast a publication reaches the catalog."""
    from scanloop.catalog import Catalog, audit
    from scanloop.execution.publication import Publication, apply

    scans, publication = 20_000, Publication()
    digests = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(scans)]
    statistics = dict.fromkeys(("mean", "std", "minimum", "maximum", "air_mean", "air_share", "saturated_share", "dark_share"), 0.123456)
    statistics |= {"dead_rows": 0, "dead_columns": 0, "is_blank": False}
    planes = [{"name": name, "height_px": HEIGHT_PX, "width_px": WIDTH_PX, "bits": 16} for name in ("high", "low")]
    scanner = {"scanner_id": "x", "site_id": "s", "manufacturer": "a", "model": "b", "serial": "c"}
    publication.insert("sites", [{"site_id": "s", "name": "s"}], action="site.seen", subject="site_id")
    publication.insert("scanners", [scanner], action="scanner.seen", subject="scanner_id")
    publication.insert(
        "bags", ({"bag_id": f"s/s/{number}", "site_id": "s"} for number in range(scans // 2)), action="bag.seen", subject="bag_id"
    )
    scan = {"site_id": "s", "scanner_id": "x", "view_name": "top", "modality": "DX", "source_format": "dicos", "scan_type": "operational"}
    scan |= {
        "acquired_at": datetime(2026, 3, 1, tzinfo=UTC),
        "is_projected": False,
        "planes": planes,
        "phash": "0" * 16,
        "state": "received",
    }
    scan |= {"attributes": {"software": "1", "missing": []}, "statistics": {"high": statistics, "low": statistics}}
    publication.insert(
        "scans",
        (
            scan
            | {"scan_id": digest, "bag_id": f"s/s/{number // 2}", "raw_key": f"scans/raw/{digest}", "planes_key": f"scans/planes/{digest}"}
            for number, digest in enumerate(digests)
        ),
        action="scan.received",
        subject="scan_id",
    )
    delivery = {"site_id": "s", "size_bytes": 1, "outcome": "scan", "quarantine_id": None}
    publication.insert(
        "deliveries",
        (delivery | {"delivery_id": one[::-1], "landing_key": f"s/1/{one}", "content_sha256": one, "scan_id": one} for one in digests),
        action="delivery.received",
        subject="delivery_id",
    )
    content, best = publication.encode(), 0.0
    for _ in range(3):
        catalog = Catalog(bench.make_catalog())
        began = time.monotonic()
        with catalog.begin() as connection:
            before, _ = audit.head(connection)
            after, _ = audit.append(connection, apply(connection, Publication.decode(content), run_id="r", actor="a"))
        best = max(best, 2 * (after - before) / (time.monotonic() - began))
        catalog.close()
    print(f"catalog: {best:,.0f} rows/s, half of them audit entries, best of 3; limit {ROWS_LIMIT:,}; ratio {best / ROWS_LIMIT:.2f}")
    return [] if best >= ROWS_LIMIT else ["rows"]


def memory(bench: Bench, counts: list[int]) -> list[str]:
    """Print the largest resident size of the job for each number of small scans."""
    sizes: list[float] = []
    for count in counts:
        environment = bench.deployment()
        members = _small_files(count)
        deliver(environment, {"small": members}, scanners=64)
        del members
        command(environment, "ingest", "plan", "--max-shards=1", f"--max-deliveries={count}", "--run-id=r")
        script = (
            "import json, resource, subprocess, sys; done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True);"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        words = [str(Path(sys.executable).with_name("scanloop")), "ingest", "shard", "--shard=00/01", "--run-id=r"]
        began = time.monotonic()
        done = subprocess.run([sys.executable, "-c", script, *words], env=environment, stdout=subprocess.PIPE, text=True, check=True)
        sizes.append(int(done.stdout) / 1024)
        print(f"{count:>7,} scans: largest resident size {sizes[-1]:.0f} MiB, {count / (time.monotonic() - began):.0f} scans/s", flush=True)
    ratio = sizes[-1] / sizes[0]
    print(f"memory: {ratio:.2f} times as much for {counts[-1] / counts[0]:.0f} times as many scans; limit {MEMORY_LIMIT}")
    return [] if ratio <= MEMORY_LIMIT else ["memory"]


def _picture(generator: np.random.Generator, height_px: int, width_px: int) -> dict[str, np.ndarray]:
    """Two planes of a made-up bag: smooth shapes, air around them, the noise of a line scanner."""
    rows_px, columns_px = np.mgrid[0:height_px, 0:width_px]
    thickness = np.zeros((height_px, width_px), np.float32)
    for _ in range(12):
        top, left = generator.uniform(0.15, 0.85, 2) * (height_px, width_px)
        high, wide = generator.uniform(0.05, 0.25, 2) * (height_px, width_px)
        thickness += generator.uniform(0.05, 0.6) * (((rows_px - top) / high) ** 2 + ((columns_px - left) / wide) ** 2 < 1)
    planes = {}
    for name, factor, photons in (("high", 1.0, 40_000), ("low", 1.35, 25_000)):
        counts = 0.97 * np.exp(-factor * thickness)
        noisy = counts + generator.normal(0, 1, counts.shape).astype(np.float32) * np.sqrt(counts / photons)
        planes[name] = np.clip(noisy * 65535, 0, 65535).astype(np.uint16)
    return planes


def _files(kind: str, count: int) -> list[tuple[bytes, bytes | None]]:
    """Files of one format with their sidecars, no two alike."""
    from scanloop.simulator.acquisition import acquire
    from scanloop.simulator.dicos import write_dicos
    from scanloop.simulator.exports import sidecar, write_png, write_tiff

    generator, found = np.random.default_rng([2026, len(kind)]), []
    base = [_picture(generator, HEIGHT_PX, WIDTH_PX) for _ in range(4)]
    for number in range(count):
        planes = {name: np.roll(pixels, number + 1, axis=1) for name, pixels in base[number % len(base)].items()}
        acquisition = acquire(1, 1, number, 4)[0]
        if kind == "tiff":
            found.append((write_tiff(planes), sidecar(acquisition, tuple(planes))))
        elif kind == "png":
            found.append((write_png(planes), sidecar(acquisition, tuple(planes))))
        else:
            found.append((write_dicos(planes, acquisition, syntax=kind), None))  # type: ignore[arg-type]
    return found


def _small_files(count: int) -> list[tuple[bytes, bytes | None]]:
    from scanloop.simulator.acquisition import acquire
    from scanloop.simulator.exports import sidecar, write_png

    generator, found = np.random.default_rng(1), []
    base = _picture(generator, 40, 48)
    for number in range(count):
        planes = {name: pixels.copy() for name, pixels in base.items()}
        planes["high"][0, 0], planes["high"][0, 1] = number % 60000, number // 60000
        found.append((write_png(planes), sidecar(acquire(1, 1, number, 16)[0], tuple(planes))))
    return found


@contextmanager
def _object_store(kind: str) -> Iterator[str | None]:
    """Address of an S3-speaking server in a process of its own, or None for a folder."""
    with nullcontext() if kind == "folder" else _moto() as address:
        yield address


@contextmanager
def _moto() -> Iterator[str]:
    import socket

    os.environ |= {
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(300):
            try:
                urllib.request.urlopen(address, timeout=1).close()
                break
            except OSError:
                time.sleep(0.2)
        yield address
    finally:
        server.kill()
        server.wait()


@contextmanager
def _catalog(folder: Path) -> Iterator[Any]:
    """Makes URLs of new, migrated catalogs on one embedded server."""
    import psycopg

    from scanloop.catalog import Catalog
    from scanloop.catalog.embedded import serve_embedded
    from scanloop.catalog.migrate import migrate

    data, made = Path(tempfile.mkdtemp(prefix="scanloop-bench-pg-")) / "data", []
    template = serve_embedded(data, "template_bench")
    catalog = Catalog(template)
    migrate(catalog)
    catalog.close()

    def make() -> str:
        made.append(f"bench_{len(made)}")
        with psycopg.connect(template.replace("/template_bench", "/postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {made[-1]} TEMPLATE template_bench")  # type: ignore[arg-type]
        return template.replace("/template_bench", f"/{made[-1]}")

    try:
        yield make
    finally:
        import signal

        os.kill(int((data / "postmaster.pid").read_text().split()[0]), signal.SIGINT)
        time.sleep(1)
        shutil.rmtree(data.parent, ignore_errors=True)


if __name__ == "__main__":
    main()
