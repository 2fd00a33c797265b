"""`semask serve` under load: time to an answer, throughput, overhead, overload, a long run, killed processes.

    python benchmarks/serve.py load                       # p50, p95, p99 and throughput, concurrency 1 to 64
    python benchmarks/serve.py overhead                   # against the model alone, in a process with nothing else
    python benchmarks/serve.py overload                   # ten times what it can do
    python benchmarks/serve.py soak --minutes 60          # slope of the memory
    python benchmarks/serve.py kill --times 5             # kill -9 of the model's process, and of a decoder
    python benchmarks/serve.py sizes --sizes 500          # memory after images of many sizes, by kernels that are kept
    python benchmarks/serve.py litserve --python PYTHON   # the same load on LitServe; PYTHON has it and semask
    python benchmarks/serve.py all --json serve.json

Each starts a server of its own on a free port, with the model in the package or --model, and sends --size images of
noise and colors as JPEG. Clients are threads of this process, so give the machine a core more than the server computes
with, and let it be quiet. The server's options follow after --: `... load -- --max_batch 16 --threads 2`.
"""

import argparse
import base64
import contextlib
import http.client
import io
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from semask.checkpoints.places import DEFAULT

CONCURRENCY = (1, 2, 4, 8, 16, 32, 64)
PATH = "/v1/models/model/predict?format=png"
HEADERS = {"Content-Type": "image/jpeg"}


class Answered(NamedTuple):
    """An answer: when it was asked for, how long it took, and its status; 0 is none at all."""

    at: float
    seconds: float
    status: int
    retry_after: str | None = None


class Running:
    """A server in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], port: int, path: str, body: Callable[[bytes], bytes]) -> None:
        self.process, self.port, self.path, self.body = process, port, path, body
        self.headers = HEADERS

    @property
    def children(self) -> list[int]:
        """Its processes."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return [int(x) for task in tasks for x in (task / "children").read_text().split()]

    def memory(self) -> dict[str, float]:
        """Resident MB of the server itself, and of all its processes."""
        own = resident(self.process.pid)
        return {"server": own, "all": own + sum(map(resident, self.children))}

    def model_pid(self) -> int:
        """The largest of its processes."""
        return max(self.children, key=resident)

    def decoder_pid(self) -> int:
        return sorted(self.children, key=resident)[-2]


def resident(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, ValueError, IndexError):
        return 0.0


@contextlib.contextmanager
def serving(options: argparse.Namespace, *further: str) -> Iterator[Running]:
    """Run `semask serve`."""
    command = [sys.executable, "-m", "semask.cli", "serve", f"model={options.model}", "--port", "0"]
    command += ["--device", options.device, "--precision", options.precision, *options.server, *further]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    port, line = None, ""
    for line in process.stderr:
        with contextlib.suppress(ValueError):
            port = json.loads(line).get("port")
        if port is not None:
            break
    if port is None:
        raise SystemExit(f"the server did not start: {line}")
    threading.Thread(target=lambda: [None for _ in process.stderr or ()], daemon=True).start()
    try:
        yield Running(process, port, PATH, lambda image: image)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


LITSERVE = """
import base64, io, sys
import litserve
import numpy as np
from PIL import Image
from semask.prediction.opening import open_predictor

class Api(litserve.LitAPI):
    def setup(self, device):
        self.predictor = open_predictor(sys.argv[1], device=sys.argv[3], precision=sys.argv[4]).predictor
    def decode_request(self, request):
        return np.array(Image.open(io.BytesIO(base64.b64decode(request["image"]))).convert("RGB"))
    def batch(self, inputs):
        return list(inputs)
    def predict(self, images):
        return self.predictor(images, confidence=False)
    def unbatch(self, output):
        return list(output)
    def encode_response(self, output):
        buffer = io.BytesIO()
        output.mask().save(buffer, "PNG")
        return {"mask": base64.b64encode(buffer.getvalue()).decode()}

if __name__ == "__main__":
    server = litserve.LitServer(Api(max_batch_size=8, batch_timeout=0.01), accelerator="cpu", timeout=300)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False)
"""
"""The same on LitServe, which takes JSON: the image and the mask go as base64."""


@contextlib.contextmanager
def litserving(options: argparse.Namespace) -> Iterator[Running]:
    """Run the same model on LitServe."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "litserve_model.py"
        script.write_text(LITSERVE)
        command = [options.python, str(script), options.model, str(port), options.device, options.precision]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)
        server = Running(
            process, port, "/predict", lambda x: json.dumps({"image": base64.b64encode(x).decode()}).encode()
        )
        server.headers = {"Content-Type": "application/json"}
        try:
            for _ in range(600):
                if ask(server, server.body(image(options.size, 0)), 60).status == 200:
                    break
                time.sleep(0.2)
            yield server
        finally:
            for child in server.children:
                with contextlib.suppress(OSError):
                    os.kill(child, signal.SIGTERM)
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def image(size: tuple[int, int], seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (size[0] // 16 + 1, size[1] // 16 + 1, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def ask(server: Running, body: bytes, timeout: float, connection: http.client.HTTPConnection | None = None) -> Answered:
    """Send one image."""
    own = connection or http.client.HTTPConnection("127.0.0.1", server.port)
    own.timeout = timeout
    at = time.monotonic()
    try:
        own.request("POST", server.path, body=body, headers=server.headers)
        response = own.getresponse()
        response.read()
        return Answered(at, time.monotonic() - at, response.status, response.getheader("Retry-After"))
    except (OSError, http.client.HTTPException):
        own.close()
        return Answered(at, time.monotonic() - at, 0)
    finally:
        if connection is None:
            own.close()


def load(server: Running, options: argparse.Namespace, clients: int, seconds: float) -> list[Answered]:
    """Let clients send one image after another for some seconds."""
    bodies = [server.body(image(options.size, seed)) for seed in range(16)]
    answers: list[Answered] = []
    end = time.monotonic() + seconds

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        own, sent = [], number
        while time.monotonic() < end:
            own.append(ask(server, bodies[sent % len(bodies)], 600, connection))
            sent += 1
        connection.close()
        answers.extend(own)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def described(answers: list[Answered], seconds: float) -> dict[str, Any]:
    """Percentiles of the answers that are predictions, and how many of each status there are."""
    good = sorted(answer.seconds for answer in answers if answer.status == 200)
    statuses = {str(status): count for status, count in sorted(Counter(answer.status for answer in answers).items())}
    if not good:
        return {"statuses": statuses}
    percentiles = {
        f"p{p}_ms": round(1000 * good[min(int(len(good) * p / 100), len(good) - 1)], 1) for p in (50, 95, 99)
    }
    return {
        **percentiles,
        "max_ms": round(1000 * good[-1], 1),
        "per_second": round(len(good) / seconds, 2),
        "statuses": statuses,
    }


def measure_load(options: argparse.Namespace, context: Any = serving) -> list[dict[str, Any]]:
    rows = []
    with context(options) as server:
        load(server, options, 4, options.warm)
        for clients in options.concurrency:
            rows.append(
                {"clients": clients, **described(load(server, options, clients, options.seconds), options.seconds)}
            )
            show(rows[-1])
    return rows


def measure_overhead(options: argparse.Namespace) -> dict[str, Any]:
    """One client, against the same images through the same predictor with nothing around it; in turns."""
    rows: dict[str, list[float]] = {"model": [], "model with decoding and PNG": [], "server": []}
    with alone(options) as direct, serving(options) as server:
        bodies = [image(options.size, seed) for seed in range(8)]
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        for number in range(options.rounds + 5):
            for body in bodies:
                times = direct(body)
                answer = ask(server, body, 600, connection)
                if number >= 5:
                    rows["model"].append(times[0])
                    rows["model with decoding and PNG"].append(times[1])
                    rows["server"].append(answer.seconds)
    medians = {name: 1000 * statistics.median(seconds) for name, seconds in rows.items()}
    both = medians["model with decoding and PNG"]
    found = {f"{name}, ms": round(value, 2) for name, value in medians.items()}
    found |= {"overhead over the model, %": round(100 * (medians["server"] / medians["model"] - 1), 1)}
    found |= {"overhead over the model with decoding and PNG, %": round(100 * (medians["server"] / both - 1), 1)}
    show(found)
    return found


ALONE = """
import io, json, sys, time
import numpy as np
from PIL import Image
from semask.data.images import encoded
from semask.prediction.opening import open_predictor
predictor = open_predictor(sys.argv[1], device=sys.argv[2], precision=sys.argv[3]).predictor
print("ready", flush=True)
while size := sys.stdin.buffer.readline():
    body = sys.stdin.buffer.read(int(size))
    begin = time.perf_counter()
    pixels = np.array(Image.open(io.BytesIO(body)).convert("RGB"))
    middle = time.perf_counter()
    found = predictor(pixels, confidence=False)
    after = time.perf_counter()
    encoded(found.mask(), "PNG")
    print(json.dumps([after - middle, time.perf_counter() - begin]), flush=True)
"""
"""The model alone."""


@contextlib.contextmanager
def alone(options: argparse.Namespace) -> Iterator[Callable[[bytes], list[float]]]:
    command = [sys.executable, "-c", ALONE, options.model, options.device, options.precision]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout
    stdout.readline()

    def direct(body: bytes) -> list[float]:
        stdin.write(f"{len(body)}\n".encode() + body)
        stdin.flush()
        times: list[float] = json.loads(stdout.readline())
        return times

    try:
        yield direct
    finally:
        process.kill()
        process.wait()


def measure_overload(options: argparse.Namespace) -> dict[str, Any]:
    """Requests at ten times the rate that the server can do: whenever they are due, whether others are done or not."""
    with serving(options, "--deadline", str(options.deadline), "--max_deadline", "600") as server:
        load(server, options, 4, options.warm)
        able = described(load(server, options, 16, options.seconds), options.seconds)["per_second"]
        rate, answers, before = options.times_rate * able, [], server.memory()
        body, highest, threads = server.body(image(options.size, 0)), before["all"], []
        begin = time.monotonic()
        for number in range(int(rate * options.seconds)):
            time.sleep(max(begin + number / rate - time.monotonic(), 0))
            thread = threading.Thread(target=lambda: answers.append(ask(server, body, 600)))
            thread.start()
            threads.append(thread)
            if number % 50 == 0:
                highest = max(highest, server.memory()["all"])
        for thread in threads:
            thread.join()
        elapsed = time.monotonic() - begin
        time.sleep(1)
        late = sum(answer.seconds > options.deadline + 0.5 for answer in answers if answer.status == 200)
        refused = [answer for answer in answers if answer.status == 429]
        found = {
            "able_per_second": able,
            "sent_per_second": round(len(answers) / options.seconds, 1),
            **described(answers, elapsed),
            "accepted_but_late": late,
            "refused_without_retry_after": sum(answer.retry_after is None for answer in refused),
            "refused_p99_ms": round(1000 * percentile([answer.seconds for answer in refused], 99), 1)
            if refused
            else None,
            "memory_mb": {"before": before, "highest": highest, "after": server.memory()},
        }
        show(found)
        return found


def percentile(values: list[float], p: float) -> float:
    return float(np.percentile(values, p))


def measure_soak(options: argparse.Namespace) -> dict[str, Any]:
    """Steady load, images of many sizes and some that are damaged; the slope of the memory after the first tenth."""
    samples: list[tuple[float, float, float]] = []
    with serving(options) as server:
        begin, stop = time.monotonic(), threading.Event()

        def sample() -> None:
            while not stop.wait(options.every):
                memory = server.memory()
                samples.append((time.monotonic() - begin, memory["server"], memory["all"]))

        sampler = threading.Thread(target=sample)
        sampler.start()
        answers: list[Answered] = []
        while time.monotonic() - begin < 60 * options.minutes:
            answers += load(server, options, 8, min(options.seconds, 60 * options.minutes))
            rng = np.random.default_rng(len(answers))
            for _ in range(4):
                body = image((int(rng.integers(16, 900)), int(rng.integers(16, 900))), int(rng.integers(9999)))
                answers.append(ask(server, body, 600))
                answers.append(ask(server, body[: len(body) // 3], 600))
        stop.set()
        sampler.join()
    kept = [x for x in samples if x[0] > 6 * options.minutes] or samples
    hours = np.array([x[0] for x in kept]) / 3600
    slopes = [float(np.polyfit(hours, [x[i] for x in kept], 1)[0]) if len(kept) > 2 else None for i in (1, 2)]
    found = {
        **described(answers, 60 * options.minutes),
        "minutes": options.minutes,
        "slope_mb_per_hour": {"server": slopes[0], "all": slopes[1]},
        "memory_mb": {"first": kept[0][1:], "last": kept[-1][1:]} if kept else None,
    }
    show(found)
    return found


def measure_kill(options: argparse.Namespace) -> dict[str, Any]:
    """Kill -9 the process of the model, then a decoder, under load: every request has an answer."""
    found = {}
    with serving(options) as server:
        load(server, options, 4, options.warm)
        for name, pid in (("model", server.model_pid), ("decoder", server.decoder_pid)):
            answers: list[Answered] = []
            runner = threading.Thread(
                target=lambda kept=answers: kept.extend(load(server, options, 8, options.seconds * 2))
            )
            runner.start()
            for _ in range(options.times):
                time.sleep(2 * options.seconds / (options.times + 1))
                with contextlib.suppress(OSError):
                    os.kill(pid(), signal.SIGKILL)
            runner.join()
            found[name] = {
                **described(answers, 2 * options.seconds),
                "without_an_answer": sum(x.status == 0 for x in answers),
            }
            show({name: found[name]})
    return found


def measure_sizes(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Images that all have another size; the memory of the model's process, by how many kernels oneDNN keeps."""
    rows, name = [], "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    before = os.environ.pop(name, None)
    for kept in (None, *options.kept):
        if kept is not None:
            os.environ[name] = str(kept)
        rng = np.random.default_rng(0)
        with serving(options) as server:
            for count in range(1, options.sizes + 1):
                size = int(rng.integers(64, 900)), int(rng.integers(64, 900))
                assert ask(server, server.body(image(size, count)), 600).status == 200
                if count in (1, options.sizes) or count % max(options.sizes // 5, 1) == 0:
                    row = {"kept": kept or "as the server sets it", "sizes": count}
                    rows.append({**row, "model_mb": round(resident(server.model_pid()), 1)})
                    show(rows[-1])
    os.environ.pop(name, None)
    if before is not None:
        os.environ[name] = before
    return rows


def show(row: dict[str, Any]) -> None:
    print(json.dumps(row), flush=True)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    arguments = sys.argv[1:] if arguments is None else arguments
    place = arguments.index("--") if "--" in arguments else len(arguments)
    arguments, further = arguments[:place], arguments[place + 1 :]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["load", "overhead", "overload", "soak", "kill", "sizes", "litserve", "all"])
    parser.add_argument("--model", default=DEFAULT)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--size", type=int, nargs=2, default=(360, 480), metavar=("H", "W"))
    parser.add_argument("--concurrency", type=int, nargs="+", default=CONCURRENCY)
    parser.add_argument("--seconds", type=float, default=20, help="of each measurement")
    parser.add_argument("--warm", type=float, default=5, help="seconds before the first")
    parser.add_argument("--rounds", type=int, default=20, help="of 8 images, for overhead")
    parser.add_argument("--times_rate", type=float, default=10, help="of what the server can do, for overload")
    parser.add_argument("--deadline", type=float, default=5, help="seconds, for overload")
    parser.add_argument("--minutes", type=float, default=60, help="of the soak")
    parser.add_argument("--every", type=float, default=5, help="seconds between two looks at the memory")
    parser.add_argument("--times", type=int, default=5, help="that a process is killed")
    parser.add_argument("--sizes", type=int, default=500, help="that images have, for sizes")
    parser.add_argument("--kept", type=int, nargs="+", default=(1024, 100), help="kernels of oneDNN, for sizes")
    parser.add_argument("--python", default=sys.executable, help="that has litserve and semask")
    parser.add_argument("--json", help="file to write")
    options = parser.parse_args(arguments)
    options.size, options.server = tuple(options.size), further
    jobs: dict[str, Callable[[], Any]] = {
        "load": lambda: measure_load(options),
        "overhead": lambda: measure_overhead(options),
        "overload": lambda: measure_overload(options),
        "kill": lambda: measure_kill(options),
        "soak": lambda: measure_soak(options),
        "sizes": lambda: measure_sizes(options),
        "litserve": lambda: measure_load(options, litserving),
    }
    names = [name for name in jobs if name != "litserve"] if options.what == "all" else [options.what]
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
    }
    found: dict[str, Any] = {"machine": machine, "model": options.model, "precision": options.precision}
    for name in names:
        print(f"# {name}", flush=True)
        found[name] = jobs[name]()
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1))
    return found


if __name__ == "__main__":
    main()
