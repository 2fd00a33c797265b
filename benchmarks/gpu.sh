#!/usr/bin/env bash
# All that needs a GPU, in one go of about ten minutes: the tests, throughput, training steps, attention.
#
#   bash benchmarks/gpu.sh FOLDER       # in the repository's root, in an environment with the package and its extras
#
# Each part has its own time limit and its own file in FOLDER, so that one that fails or hangs leaves the others' results.
set -uo pipefail
out=${1:?give a folder for the results}
mkdir -p "$out"
python=${PYTHON:-python}

part() { # name, seconds, command
  local name=$1 limit=$2
  shift 2
  echo "== $name: $*"
  timeout "$limit" "$@" 2>&1 | tee "$out/$name.txt" || echo "== $name failed or took over $limit s"
}
bench() { # name, seconds, arguments of run.py
  local name=$1 limit=$2
  shift 2
  part "$name" "$limit" "$python" benchmarks/run.py "$@" --device cuda --json "$out/$name.json"
}

part tests 130 "$python" -m pytest -v -m gpu
bench throughput 180 throughput --sides reference eager-bf16 compiled-bf16 --batches 1 8 32
bench train 150 train --sides reference eager-bf16 compiled-bf16 --batches 16
bench attention 110 attention --cells 4096 16384 65536
