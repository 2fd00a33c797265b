"""Compare our models with numbers of the published SeMask code.

    python tests/parity.py DIR --cases 'fpn_*,swin_*'

runs every case DIR/CASE.json + CASE.npz whose name matches, prints one line a case with its worst relative difference
(maximal absolute difference over the standard deviation of the tensor; losses and gradients relative to their size) and
exits with 1 if one is over the limit. A mask case whose result hangs on a threshold is compared in float64, and a
second line says so. The recipe that makes weights and inputs from a seed is in the goldens' README; the settings that a
case leaves open are those of our own recipes in configs/.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import torch
from parity_case import LIMIT, MASK_LIMIT, Case
from parity_mask import check_mask_model
from parity_pixel import check_inference, check_model, check_pretrained


def run(path: Path, directory: Path, dtype: torch.dtype = torch.float32) -> Case:
    """Run the case of one JSON file; `directory` takes files that it has to write.

    Raises:
        AssertionError: If something that has to be the same, not just close, differs.
    """
    with np.load(path.with_suffix(".npz")) as arrays:
        case = Case(path, json.loads(path.read_text(encoding="utf-8")), dict(arrays))
    if case.name.startswith("swin_pretrained"):
        check_pretrained(case, directory)
    elif "mask_former" in case.spec:
        check_mask_model(case, dtype)
    elif "slide" in case.spec:
        check_inference(case, dtype)
    else:
        check_model(case, dtype)
    assert case.differences, f"{case.name}: nothing was compared"
    return case


def find(directory: Path, patterns: str) -> Iterator[Path]:
    """JSON files of the cases (those with an .npz beside them) whose name matches one of the comma-separated globs."""
    for path in sorted(directory.glob("*.json")):
        if path.with_suffix(".npz").exists() and any(fnmatch(path.stem, pattern) for pattern in patterns.split(",")):
            yield path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="folder of CASE.json and CASE.npz")
    parser.add_argument("--cases", default="*", help="comma-separated globs of case names")
    parser.add_argument(
        "--limit", type=float, help=f"largest relative difference (default {LIMIT}, mask decoders {MASK_LIMIT})"
    )
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--verbose", action="store_true", help="print the five worst differences of each case")
    args = parser.parse_args()

    paths, failures = list(find(args.directory, args.cases)), 0
    for path in paths:
        with tempfile.TemporaryDirectory() as scratch:
            try:
                case = run(path, Path(scratch), getattr(torch, args.dtype))
            except (AssertionError, KeyError, ValueError) as error:
                print(f"{path.stem:45s} FAILED: {type(error).__name__}: {error}")
                failures += 1
                continue
        worst, name = case.worst
        fine = worst <= (args.limit or case.limit)
        failures += not fine
        verdict = "ok" if fine else "OVER THE LIMIT"
        print(f"{case.name:45s} {worst:.2e}  {verdict}  ({len(case.differences)} compared, worst: {name})", flush=True)
        if case.remark:
            print(f"    {case.remark}")
        if args.verbose:
            for name, value in sorted(case.differences.items(), key=lambda item: -item[1])[:5]:
                print(f"    {value:.2e}  {name}")
    if not paths:
        print(f"no case in {args.directory} matches {args.cases}")
    return 1 if failures or not paths else 0


if __name__ == "__main__":
    sys.exit(main())
