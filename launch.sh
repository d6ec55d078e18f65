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

fail() {
  echo "error: $*" >&2
  exit 1
}

usage() {
  sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
}

# Creates the environment; again, if an earlier attempt failed or was interrupted, or if its interpreter is gone.
create() {
  local python=${PYTHON:-python3} mark=$venv/made-by-launch.sh version
  command -v "$python" > /dev/null || fail "there is no $python; install Python 3.11 or newer, or set PYTHON=..."
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$python is $("$python" --version 2>&1); expected Python 3.11 or newer: set PYTHON=..."
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  "$python" -c 'import ensurepip, venv' 2> /dev/null ||
    fail "$python has no venv or no ensurepip, which make environments; install them, on Debian and Ubuntu with:" \
      "sudo apt install python$version-venv"
  if [ -L "$venv" ] || { [ -e "$venv" ] && [ ! -d "$venv" ]; }; then
    fail "$venv is a link or a file, and has no working Python with pip; delete it, and it is made again as a folder"
  fi
  if [ ! -e "$mark" ] && compgen -G "$venv/lib/python*/site-packages/*" > /dev/null &&
    ! compgen -G "$venv/installed-*" > /dev/null; then
    fail "$venv has packages, but no working pip, and launch.sh did not make it; install pip there, or delete $venv"
  fi
  echo "creating $venv"
  "$python" -m venv --clear --without-pip "$venv"
  touch "$mark"
  "$venv/bin/python" -m ensurepip --default-pip > /dev/null || fail "pip could not be installed into $venv (see above)"
}

# install EXTRA...: creates the environment, or updates it after a change of pyproject.toml or constraints.txt.
install() {
  local extras stamp
  extras=$(IFS=,; echo "$*")
  "$venv/bin/python" -m pip --version > /dev/null 2>&1 || create
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
  [ $# -gt 0 ] || fail 'no config file; for example ./launch.sh run experiments/fcn16s.py'
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
