"""One harness for time and memory: ours in all its forms, the published computation, models of other libraries.

    python benchmarks/run.py latency --sides reference plain eager eager-bf16 --sizes 512x512 1024x2048 --threads 2
    python benchmarks/run.py throughput --batches 1 2 4 8 --device cuda
    python benchmarks/run.py train --sides reference plain eager eager-bf16 --threads 2
    python benchmarks/run.py curves --sizes 256x256 512x512 1024x1024 --class-counts 19 150 1000
    python benchmarks/run.py optimisations --threads 2 --sizes 512x512 1024x2048
    python benchmarks/run.py attention --tokens 2048 4096 8192
    python benchmarks/run.py loss --class-counts 11 150
    python benchmarks/run.py startup --rounds 5
    python benchmarks/run.py data --workers 0 1 2 --images-per-second 60

Each prints the machine and tables in Markdown. In a case (a size, a batch) all sides are in one process and take turns;
a time is the median of the rounds with its least and greatest, a ratio is taken to the first side in each round, and
its median, least and greatest are given. Peak memory is measured in a process for each side, in a step after one that
warmed up: of the whole process on a CPU, of tensors on a GPU; "adds" is what is above the memory before the first step.
The sides: benchmarks/sides.py.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import harness
import loading
import startup
import torch
from attention import FORMS, AttentionCase
from harness import COLUMNS, Builder, Columns, Result, Settings, compare, print_table
from pixel_loss import LAYOUTS, LossCase
from sides import OPTIMIZATIONS, SIDES, Case, choose, optimizations

from semask.builder import build

IMAGES: Columns = {"images/s": lambda x, _: harness.number(x.values.get("images/s"), ".2f")}
SHARE: Columns = {"of matmul rate": lambda x, _: harness.number(x.values.get("share"), ".0%")}


def cases(options: argparse.Namespace, kind: Any) -> list[Case]:
    """One for each batch and size."""
    return [
        Case(kind, batch, size, options.encoder, options.classes, options.device, options.exports, options.threads)
        for size in options.sizes
        for batch in options.batches
    ]


def speed(options: argparse.Namespace, settings: Settings) -> list[Result]:
    """Latency and throughput: prediction over sizes and batches."""
    sides = choose(options.sides)
    groups = (with_rate(compare(case.name, case, sides, settings), case) for case in cases(options, "predict"))
    return print_table(groups, {**COLUMNS, **IMAGES})


def with_rate(results: list[Result], case: Case) -> list[Result]:
    return [replace(x, values={"images/s": case.batch / x.median}) for x in results]


def train(options: argparse.Namespace, settings: Settings) -> list[Result]:
    """Training steps, with the share of the device's own rate of matrix products that they reach."""
    sides = choose(options.sides)
    rates = {dtype: harness.apart(harness.matmul_rate, dtype, settings) for dtype in (torch.float32, torch.bfloat16)}
    print(", ".join(f"{dtype}: matrix products {rate / 1e12:.2f} TFLOP/s" for dtype, rate in rates.items()))

    def groups() -> Iterator[list[Result]]:
        for case in cases(options, "train"):
            flops = training_flops(case)
            results = with_rate(compare(case.name, case, sides, settings), case)
            yield [with_share(x, flops, rates) for x in results]

    return print_table(groups(), {**COLUMNS, **IMAGES, **SHARE})


def training_flops(case: Case) -> int:
    """FLOPs of a training step of SeMask: three times those of a forward pass."""
    from semask.cost import flops

    return 3 * case.batch * flops(build(case.encoder, num_classes=case.classes), case.size)


def with_share(result: Result, flops: int, rates: dict[torch.dtype, float]) -> Result:
    if "/" in result.side:  # another model: its FLOPs are others
        return result
    rate = rates[torch.bfloat16 if result.side.endswith("bf16") else torch.float32]
    return replace(result, values={**result.values, "share": flops / result.median / rate})


def curves(options: argparse.Namespace, settings: Settings) -> list[Result]:
    """Time and memory against pixels and against classes."""
    sides = choose(options.sides)
    options.batches = [1]
    print(f"\nAgainst pixels, {options.classes} classes:")
    by_size = {case.size[0] * case.size[1]: case for case in cases(options, "predict")}
    results = curve("pixels", by_size, sides, settings)
    height, width = options.class_size
    print(f"\nAgainst classes, {height} x {width}:")
    case = replace(cases(options, "predict")[0], size=options.class_size)
    by_classes = {count: replace(case, classes=count) for count in options.class_counts}
    return results + curve("classes", by_classes, sides, settings)


def curve(against: str, cases: dict[int, Case], sides: dict[str, Builder], settings: Settings) -> list[Result]:
    """Measure cases by what is varied, and print the exponent that time and memory grow with."""
    named = {f"{x:,} {against}": (x, case) for x, case in cases.items()}
    results = print_table(compare(name, case, sides, settings) for name, (_, case) in named.items())
    print(f"\n| side | quantity | exponent of {against} | between neighbors | over |\n|---|---|---|---|---|")
    for side in sides:
        for quantity in ("median", "growth"):
            points = [(named[r.case][0], getattr(r, quantity)) for r in results if r.side == side]
            points = [(x, y) for x, y in points if y is not None and y > 0]  # neither NaN nor without a logarithm
            if len(points) < 2:
                continue
            fitted, least, greatest = harness.exponent(*zip(*points, strict=True))
            name = {"median": "seconds", "growth": "added MiB"}[quantity]
            over = f"{points[0][0]:,} to {points[-1][0]:,}"
            print(f"| {side} | {name} | {fitted:.2f} | {least:.2f} to {greatest:.2f} | {over} |")
    return results


def attention(options: argparse.Namespace, settings: Settings) -> list[Result]:
    """Global semantic attention alone."""
    cases = [
        AttentionCase(tokens, training, options.classes, options.channels, options.device)
        for training in (False, True)
        for tokens in options.tokens
    ]
    return print_table(compare(case.name, case, FORMS, settings) for case in cases)


def loss(options: argparse.Namespace, settings: Settings) -> list[Result]:
    """Cross-entropy alone, in both layouts of its softmax."""
    cases = [LossCase(classes, device=options.device) for classes in options.class_counts]
    return print_table(compare(case.name, case, LAYOUTS, settings) for case in cases)


def optimisations(options: argparse.Namespace, settings: Settings) -> list[Result]:
    """Each faster form by itself: a model with all of them against all but one, or the plain one against one."""
    results = []
    for kind in options.kinds:
        sizes, batch = (options.sizes, 1) if kind == "predict" else (options.train_sizes, options.batch)
        for precision in options.precisions:
            sides = optimizations(options.only, alone=options.alone, bf16=precision == "bf16")
            print(f"\n{kind}, {precision}:")
            options.batches = [batch]
            options.exports = ""
            found = cases(argparse.Namespace(**{**vars(options), "sizes": sizes}), kind)
            results += print_table(compare(case.name, case, sides, settings) for case in found)
    return results


def starts(options: argparse.Namespace, settings: Settings) -> list[startup.Start]:
    """Commands from the shell, next to `import torch`."""
    with tempfile.TemporaryDirectory() as folder:
        found = startup.measure(Path(folder), rounds=settings.rounds, warmups=settings.warmups)
    startup.print_starts(found)
    return found


def pixels(text: str) -> tuple[int, int]:
    """Read HEIGHTxWIDTH.

    >>> pixels("512x1024")
    (512, 1024)
    """
    height, width = text.split("x")
    return int(height), int(width)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, text: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        return commands.add_parser(name, parents=[shared_options(), *parents], help=text)

    latency = command("latency", "time and peak memory over sizes", model_options())
    latency.set_defaults(run=speed, batches=[1])
    throughput = command("throughput", "images/s over batch sizes", model_options())
    throughput.add_argument("--batches", nargs="+", type=int, default=[1, 2, 4, 8, 16])
    throughput.set_defaults(run=speed)
    training = command("train", "training steps", model_options())
    training.add_argument("--batches", nargs="+", type=int, default=[2])
    training.set_defaults(run=train)
    growth = command("curves", "growth with pixels and classes", model_options())
    growth.add_argument("--class-counts", nargs="+", type=int, default=[19, 50, 150, 400, 1000])
    growth.add_argument("--class-size", type=pixels, default=(512, 512), help="HEIGHTxWIDTH for --class-counts")
    growth.set_defaults(run=curves, sides=["reference", "eager"])
    faster = command("optimisations", "each faster form by itself: time and memory with and without it")
    faster.add_argument("--only", nargs="+", default=list(OPTIMIZATIONS), help="of these; all by default")
    faster.add_argument("--alone", action="store_true", help="the plain model and one; else all and all but one")
    faster.add_argument("--kinds", nargs="+", choices=("predict", "train"), default=["predict", "train"])
    faster.add_argument("--precisions", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    faster.add_argument("--sizes", nargs="+", type=pixels, default=[(512, 512)], help="HEIGHTxWIDTH, of predict")
    faster.add_argument("--train-sizes", nargs="+", type=pixels, default=[(512, 512)], help="HEIGHTxWIDTH, of train")
    faster.add_argument("--batch", type=int, default=2, help="images of a training step")
    faster.add_argument("--encoder", default="swin_tiny")
    faster.add_argument("--classes", type=int, default=150)
    faster.set_defaults(run=optimisations)
    started = command("startup", "commands from the shell, next to import torch")
    started.set_defaults(run=starts)
    alone = command("attention", "global semantic attention alone")
    alone.add_argument("--tokens", nargs="+", type=int, default=[2048, 4096, 8192])
    alone.add_argument("--classes", type=int, default=150)
    alone.add_argument("--channels", type=int, default=384)
    alone.set_defaults(run=attention)
    scores = command("loss", "the cross-entropy alone")
    scores.add_argument("--class-counts", nargs="+", type=int, default=[2, 11, 19, 64, 150])
    scores.set_defaults(run=loss)
    add_data_command(commands)
    return parser.parse_args(arguments)


def shared_options() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--rounds", type=int, default=5, help="timed rounds")
    shared.add_argument("--warmups", type=int, default=2, help="rounds before them")
    shared.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of the CPU")
    shared.add_argument("--device", default="cpu", help="cpu or cuda")
    shared.add_argument("--order", choices=harness.ORDERS, default="rotated", help="who begins a round")
    shared.add_argument("--no-memory", action="store_true", help="measure time only")
    shared.add_argument("--json", help="also write the numbers to this file")
    return shared


def model_options() -> argparse.ArgumentParser:
    model = argparse.ArgumentParser(add_help=False)
    model.add_argument("--sides", nargs="+", default=["reference", "eager", "eager-bf16"], help=", ".join(SIDES))
    model.add_argument("--sizes", nargs="+", type=pixels, default=[(512, 512)], help="HEIGHTxWIDTH")
    model.add_argument("--encoder", default="swin_tiny", help="of ours and the reference")
    model.add_argument("--classes", type=int, default=150)
    model.add_argument("--exports", help="folder to keep exported models in")
    return model


def add_data_command(commands: Any) -> None:
    data = commands.add_parser("data", help="decoding and augmentation")
    data.add_argument("--data", help="root of a data set; synthetic scenes without")
    data.add_argument("--format", default="folder", help="layout of --data: folder, ade20k, cityscapes, coco_stuff")
    data.add_argument("--scale", nargs=2, type=int, default=[2048, 512], help="long and short side")
    data.add_argument("--crop", nargs=2, type=int, default=[512, 512], help="height and width")
    data.add_argument("--workers", nargs="+", type=int, default=[0, 1, 2])
    data.add_argument("--batch-size", type=int, default=4)
    data.add_argument("--samples", type=int, default=32, help="for each worker")
    data.add_argument("--step-seconds", type=float, help="of a training step: measure how long it waits for data")
    data.add_argument("--images-per-second", type=float, help="of training: say how many workers that needs")
    data.add_argument("--json", help="also write the numbers to this file")


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    if options.command == "data":
        settings = Settings(threads=1)
    else:
        settings = Settings(
            options.rounds, options.warmups, options.threads, options.device, options.order, not options.no_memory
        )
    machine = harness.machine(settings)
    print(", ".join(f"{name}: {value}" for name, value in machine.items()))
    try:
        with tempfile.TemporaryDirectory() as folder:
            if "exports" in options:
                options.exports = options.exports or folder
            found = loading.measure(options) if options.command == "data" else options.run(options, settings)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from error
    if options.json:
        numbers = found if isinstance(found, dict) else [asdict(result) for result in found]
        given = {name: value for name, value in vars(options).items() if name != "run"}
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"machine": machine, "options": given, "results": numbers}, file, indent=1)


if __name__ == "__main__":
    main()
