#!/usr/bin/env bash
# Sets up an environment of its own in .venv, once, and runs in it:
#   ./launch.sh run experiments/fcn16s.py [FLAG...]   python -m fcn_jax.main --config=experiments/fcn16s.py [FLAG...]
#   ./launch.sh test [ARGUMENT...]                    python -m pytest [ARGUMENT...]
#   ./launch.sh tpu VERB ...                          sweeps and runs on Cloud TPU; ./launch.sh tpu help
# PYTHON names the interpreter, 3.11 or newer (python3 by default). EXTRAS names extras of pyproject.toml to
# install, as EXTRAS=cuda on a machine with NVIDIA GPUs.
set -euo pipefail

root=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
venv=$root/.venv

usage() {
  sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
}

# install EXTRA...: makes the environment, or brings it up to date where what it is made from has changed.
install() {
  local extras python=${PYTHON:-python3} stamp
  extras=$(IFS=,; echo "$*")
  if [ ! -x "$venv/bin/python" ]; then
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
      echo "error: $python is $("$python" --version 2>&1); Python 3.11 or newer is needed, set PYTHON=..." >&2
      exit 1
    }
    echo "making $venv"
    "$python" -m venv "$venv"
  fi
  stamp=$extras-$(cat "$root/pyproject.toml" "$root/constraints.txt" | cksum | cut -d' ' -f1)
  if [ ! -e "$venv/installed-$stamp" ]; then
    echo "installing fcn_jax${extras:+[$extras]} into $venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
      --constraint "$root/constraints.txt" --editable "$root${extras:+[$extras]}"
    touch "$venv/installed-$stamp" # only now: an installation that was cut short is done again
  fi
}

command=${1:-}
[ $# -gt 0 ] && shift
case $command in
run)
  [ $# -gt 0 ] || { echo "error: no config; try ./launch.sh run experiments/fcn16s.py" >&2; exit 1; }
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
  # Ray and gcloud that are there already are taken.
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
