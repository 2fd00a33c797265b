"""Encoders and decoders side by side, with and without semantic layers: size, cost, and what they learn.

    python benchmarks/compare.py                                   # every decoder on Swin-T: parameters, FLOPs, seconds
    python benchmarks/compare.py --encoders swin_tiny transformers/mit_b2 --decoders fpn smp/upernet
    python benchmarks/compare.py --encoders swin_nano --channels 64 --steps 200 --data demo/data     # and mIoU

prints a table in Markdown. Seconds are for one image in fp32: the median over rounds in which both forms take turns.
With --steps each model is trained from scratch on a folder of images with the same order, augmentation and seed.
"""

import argparse
import platform
import statistics
import tempfile
from dataclasses import replace
from functools import partial

import harness
import torch
from rich.progress import track

from semask import Augmentation, Data, Inference, MaskLoss, PixelLoss, Predictor, SeMask
from semask.cost import flops, parameters
from semask.decoders.catalog import names
from semask.evaluation.evaluate import evaluate_model
from semask.settings.training import Training
from semask.training.loop import train


def build(encoder: str, decoder: str, semantic: bool, options: argparse.Namespace, classes: int) -> SeMask:
    torch.manual_seed(options.seed)
    depth = 1 if semantic else 0
    return build(encoder, decoder, num_classes=classes, channels=options.channels, semantic_depths=depth)


def seconds(models: list[SeMask], options: argparse.Namespace) -> list[float]:
    """Median time of each model for one image of size x size, in turn."""
    image = torch.randn(1, 3, options.size, options.size)

    def step(model: SeMask) -> harness.Step:
        return torch.inference_mode()(partial(model.eval(), image))

    sides = {str(i): lambda _, model=model: step(model) for i, model in enumerate(models)}
    times = harness.take_turns(sides, None, harness.Settings(rounds=options.rounds, warmups=1))
    return [statistics.median(taken) for taken in times.values()]


def miou(model: SeMask, data: Data, options: argparse.Namespace) -> float:
    """Train a model and measure it on the validation split."""
    training = Training(
        steps=options.steps, batch_size=options.batch_size, lr=options.lr, weight_decay=0.01,
        warmup_steps=options.steps // 10, warmup_ratio=1e-3, clip_norm=1.0, save_every=options.steps, evaluate_every=0,
        seed=options.seed, cpu=not torch.cuda.is_available(),
    )  # fmt: skip
    crop = (options.crop, options.crop)
    augmentation = Augmentation(scale=None, scale_range=(0.8, 1.25), crop=crop, largest_class=0.9, photometric=False)
    loss = MaskLoss(points=2000) if model.decoder.makes_masks else PixelLoss()
    with tempfile.TemporaryDirectory() as folder:
        train(model, replace(data, check="none"), out=folder, augmentation=augmentation, loss=loss, training=training)
    return evaluate_model(Predictor(model, Inference()), data.dataset("val")).scores.miou


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoders", nargs="+", default=["swin_tiny"])
    parser.add_argument("--decoders", nargs="+", default=names())
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--data", default="demo/data")
    parser.add_argument("--steps", type=int, default=0, help="0: no training")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--crop", type=int, default=160)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = Data(root=options.data)
    classes = len(data.dataset("train").classes) if options.steps else 150
    print(f"{platform.machine()} CPU, {options.threads} threads, torch {torch.__version__}, {classes} classes\n")
    print("| encoder | decoder | semantic layers | parameters M | GFLOPs | seconds | mIoU % |")
    print("|---|---|---|---|---|---|---|")
    for encoder in options.encoders:
        for decoder in track(options.decoders, description=encoder, disable=not options.steps):
            pair = [build(encoder, decoder, semantic, options, classes) for semantic in (False, True)]
            timed = seconds(pair, options)
            for semantic, model, taken in zip(("no", "yes"), pair, timed, strict=True):
                cost = flops(model, (options.size, options.size)) / 1e9
                score = f"{100 * miou(model, data, options):.1f}" if options.steps else ""
                row = (
                    encoder,
                    decoder,
                    semantic,
                    f"{parameters(model) / 1e6:.2f}",
                    f"{cost:.1f}",
                    f"{taken:.2f}",
                    score,
                )
                print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
