#!/usr/bin/env bash
# Measures this code on one GPU (benchmarks/gpu/README.md).
#
#   bash benchmarks/gpu/run.sh steps ARCHIVE [OUT]   about five minutes: input, a short run, steps, parity, PyTorch
#   bash benchmarks/gpu/run.sh sweep ARCHIVE [OUT]   about eight minutes: three runs at full size, with their report
#
# ARCHIVE is iccv09Data.tar.gz. PYTHON is the interpreter (default: python3). Each command has a time limit, so that one
# that hangs does not use up the time of the others. The first compilation of a step takes 35 to 60 s.
set -uo pipefail
if [[ $# -lt 2 || ! "$1" =~ ^(steps|sweep)$ || ! -f "$2" ]]; then
  echo 'usage: bash benchmarks/gpu/run.sh steps|sweep ARCHIVE [OUT]' >&2
  exit 2
fi
part=$1 archive=$(realpath "$2") python=${PYTHON:-python3}
out=$(realpath -m "${3:-gpu}")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
mkdir -p "$out"

# limited SECONDS NAME COMMAND...: standard output goes to the terminal and to NAME.txt, messages to NAME.log.
limited() {
  local seconds=$1 name=$2
  shift 2
  timeout -s TERM "$seconds" "$@" 2> "$out/$name.log" | tee "$out/$name.txt"
  echo "$name: exit code ${PIPESTATUS[0]}, $SECONDS s since the start"
}

nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
nproc
if [[ $part == steps ]]; then
  JAX_PLATFORMS=cpu CUDA_VISIBLE_DEVICES='' limited 60 input "$python" -m benchmarks.gpu.input --archive="$archive"
  limited 100 run "$python" -m fcn_jax.main --config=experiments/fcn8s.py:stanford_background \
    --config.data.archive="$archive" --config.train.steps=400 --config.eval.every=200 --config.checkpoint.every=400 \
    --workdir="$out/run" > /dev/null
  tail -n 4 "$out/run/timing.jsonl"
  limited 200 training "$python" -m benchmarks.gpu.training --part=base --out="$out"
  limited 60 parity "$python" -m benchmarks.gpu.parity
  limited 120 torch "$python" -m benchmarks.gpu.torch_peer
  limited 60 forward "$python" -m benchmarks.gpu.forward
else
  XLA_PYTHON_CLIENT_MEM_FRACTION=0.3 limited 450 sweep "$python" -m fcn_jax.sweep --config=benchmarks/gpu/full_size.py \
    --slots=3 --workdir="$out/sweep" --config.data.archive="$archive" > /dev/null
  limited 30 report "$python" -m fcn_jax.report "$out/sweep"
fi
