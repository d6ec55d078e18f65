#!/usr/bin/env bash
# Measures this code on one GPU, in two stages (benchmarks/gpu/README.md). It needs no installation and no network.
#
#   bash benchmarks/gpu.sh 1 ARCHIVE [OUT]   steps, a run, input, PyTorch, numerics; at most four minutes
#   bash benchmarks/gpu.sh 2 ARCHIVE [OUT]   FCN-8s at full size on all five folds, with a report; at most nine minutes
#
# ARCHIVE is iccv09Data.tar.gz. PYTHON is the interpreter (default: python3).
root=$(realpath "$(dirname "${BASH_SOURCE[0]}")/..") || exit
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python3}" -m benchmarks.gpu.stages "$@"
