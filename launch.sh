#!/usr/bin/env bash
# Creates a virtual environment in .venv on first use, and runs one of these commands in it:
#   ./launch.sh run experiments/fcn16s.py [FLAG...]   python -m fcn_jax.main --config=experiments/fcn16s.py [FLAG...]
#   ./launch.sh test [ARGUMENT...]                    python -m pytest [ARGUMENT...]
#   ./launch.sh tpu VERB ...                          sweeps and runs on Cloud TPU; see ./launch.sh tpu help
# PYTHON is the interpreter, version 3.11 or newer (default: python3). EXTRAS lists extras of pyproject.toml to
# install, for example EXTRAS=cuda on a machine with NVIDIA GPUs.
set -euo pipefail

root=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
venv=$root/.venv

usage() {
  sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
}

# install EXTRA...: creates the environment, or updates it after a change of pyproject.toml or constraints.txt.
install() {
  local extras python=${PYTHON:-python3} stamp
  extras=$(IFS=,; echo "$*")
  if [ ! -x "$venv/bin/python" ]; then
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
      echo "error: $python is $("$python" --version 2>&1); expected Python 3.11 or newer: set PYTHON=..." >&2
      exit 1
    }
    echo "creating $venv"
    "$python" -m venv "$venv"
  fi
  stamp=$extras-$(cat "$root/pyproject.toml" "$root/constraints.txt" | cksum | cut -d' ' -f1)
  if [ ! -e "$venv/installed-$stamp" ]; then
    echo "installing fcn_jax${extras:+[$extras]} into $venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
      --constraint "$root/constraints.txt" --editable "$root${extras:+[$extras]}"
    touch "$venv/installed-$stamp" # last, so that an interrupted installation is repeated
  fi
}

command=${1:-}
[ $# -gt 0 ] && shift
case $command in
run)
  [ $# -gt 0 ] || { echo "error: no config file; for example ./launch.sh run experiments/fcn16s.py" >&2; exit 1; }
  config=$1
  shift
  install ${EXTRAS:+"$EXTRAS"}
  exec "$venv/bin/python" -m fcn_jax.main --config="$config" "$@"
  ;;
test)
  install dev ${EXTRAS:+"$EXTRAS"}
  cd "$root"
  exec "$venv/bin/python" -m pytest "$@"
  ;;
tpu)
  # An installed Ray is used; otherwise Ray is installed into .venv.
  case " $* " in
  *' --dry_run '* | *' help '* | '  ') ;;
  *) command -v ray > /dev/null || { install cloud && PATH=$PATH:$venv/bin; } ;;
  esac
  export PATH
  exec "$root/infra/tpu.sh" "$@"
  ;;
help | --help | -h)
  usage
  ;;
*)
  echo "error: ${command:-no command}; expected run, test or tpu" >&2
  usage >&2
  exit 1
  ;;
esac
