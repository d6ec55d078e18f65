#!/usr/bin/env bash
# Sweeps and runs on Cloud TPU; called by launch.sh. Requires gcloud (logged in) and Ray. docs/tpu.md explains every
# step. With --dry_run, the commands are printed and not executed.
#   ./launch.sh tpu up                           start the head node; TPU workers start and stop as needed
#   ./launch.sh tpu sweep EXPERIMENT [FLAG...]   submit python -m fcn_jax.sweep to the head node
#   ./launch.sh tpu run EXPERIMENT [FLAG...]     python -m fcn_jax.main: one run on all hosts of its own slice
#   ./launch.sh tpu status                       show nodes, chips, sweeps and runs
#   ./launch.sh tpu logs SWEEP                   follow the output of a sweep
#   ./launch.sh tpu report SWEEP                 python -m fcn_jax.report
#   ./launch.sh tpu down                         delete all machines, and list what may still cost money
# Settings, from the environment or from launch.env next to launch.sh (one per line: FCN_ZONE=us-central1-a):
#   FCN_PROJECT, FCN_ZONE       Google Cloud project and zone, for example my-project and us-central1-a
#   FCN_BUCKET                  where the runs are written, for example gs://my-bucket/fcn
#   FCN_TPU_TYPE                TPU type of a sweep's workers, one host each, for example v5litepod-8 or v4-8
#   FCN_SLICE_TYPE              TPU type of the slice of `run`; default: FCN_TPU_TYPE
#   FCN_TPUS_PER_RUN            chips per run of a sweep; default: 1
#   FCN_MAX_WORKERS             maximum number of workers; default: 4
#   FCN_PREEMPTIBLE             whether workers and slices are preemptible; default: true
#   FCN_NAME                    prefix of the names of all resources; default: fcn
set -euo pipefail

root=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
cluster=$root/.launch/tpu.yaml
dry_run=

fail() {
  echo "error: $*" >&2
  exit 1
}

# Runs a command, or prints it with shell quoting in a dry run.
act() {
  if [ -n "$dry_run" ]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

settings() {
  local missing=() name value
  if [ -e "$root/launch.env" ]; then
    while IFS='=' read -r name value; do # parsed, not executed; environment variables take precedence
      if [[ $name == FCN_* && -z ${!name:-} ]]; then export "$name=$value"; fi
    done < "$root/launch.env"
  fi
  for name in FCN_PROJECT FCN_ZONE FCN_BUCKET FCN_TPU_TYPE; do
    [ -n "${!name:-}" ] || missing+=("$name")
  done
  [ ${#missing[@]} = 0 ] ||
    fail "${missing[*]} not set; set them in the environment or in $root/launch.env (./launch.sh tpu help explains them)"
  [[ $FCN_ZONE =~ ^[a-z]+-[a-z]+[0-9]+-[a-z]$ ]] || fail "FCN_ZONE is $FCN_ZONE; expected a zone, for example us-central1-a"
  [[ $FCN_BUCKET =~ ^gs://[^/]+ ]] || fail "FCN_BUCKET is $FCN_BUCKET; expected gs://BUCKET or gs://BUCKET/FOLDER"
  FCN_BUCKET=${FCN_BUCKET%/}
  export FCN_REGION=${FCN_ZONE%-*} FCN_ROOT=$root
  : "${FCN_NAME:=fcn}" "${FCN_MAX_WORKERS:=4}" "${FCN_PREEMPTIBLE:=true}" "${FCN_TPUS_PER_RUN:=1}"
  : "${FCN_SLICE_TYPE:=$FCN_TPU_TYPE}"
  FCN_CHIPS=$(chips "$FCN_TPU_TYPE")
  FCN_RUNTIME=$(runtime "$FCN_TPU_TYPE")
  export FCN_CHIPS FCN_RUNTIME FCN_NAME FCN_MAX_WORKERS FCN_PREEMPTIBLE FCN_PROJECT FCN_ZONE FCN_TPU_TYPE
  ((FCN_TPUS_PER_RUN <= FCN_CHIPS)) ||
    fail "FCN_TPUS_PER_RUN is $FCN_TPUS_PER_RUN, but a $FCN_TPU_TYPE has $FCN_CHIPS chips; \`tpu run\` uses a whole slice"
}

# chips TYPE: the number of chips of a worker of this type, which must be one host.
chips() {
  local size=${1##*-} count most
  case $1 in
  v5litepod-* | v6e-*) count=$size most=8 ;;              # the number counts chips
  v2-* | v3-* | v4-* | v5p-*) count=$((size / 2)) most=4 ;; # the number counts cores, two per chip
  *) fail "FCN_TPU_TYPE is $1; expected a type like v5litepod-8, v6e-4, v5p-8 or v4-8" ;;
  esac
  ((count >= 1 && count <= most)) ||
    fail "FCN_TPU_TYPE is $1, of $count chips; each worker of a sweep must be one host, with up to $most chips"
  echo "$count"
}

# runtime TYPE: the software version of a TPU VM of this type.
runtime() {
  case $1 in
  v5litepod-*) echo v2-alpha-tpuv5-lite ;;
  v5p-*) echo v2-alpha-tpuv5 ;;
  v6e-*) echo v2-alpha-tpuv6e ;;
  *) echo tpu-ubuntu2204-base ;;
  esac
}

# Writes the cluster file, and the token with which the nodes authenticate each other.
render() {
  mkdir -p "$root/.launch"
  if [ ! -e "$root/.launch/token" ]; then
    (umask 077 && python3 -c 'import secrets; print(secrets.token_hex(32))' > "$root/.launch/token")
  fi
  python3 -c 'import os, string, sys; print(string.Template(sys.stdin.read()).substitute(os.environ), end="")' \
    < "$root/infra/tpu.yaml" > "$cluster.tmp"
  mv "$cluster.tmp" "$cluster"
}

needs() {
  local tool
  for tool in "$@"; do
    command -v "$tool" > /dev/null || fail "$tool is not installed; docs/tpu.md explains the setup"
  done
}

on_head() {
  act ray exec "$cluster" "cd ~/fcn_jax && export RAY_AUTH_MODE=token PATH=\$HOME/env/bin:\$PATH && $*"
}

# If the firewall admits more than SSH, RDP and ping from everywhere, Ray's ports are open to everyone.
check_firewall() {
  local rules
  rules=$(gcloud compute firewall-rules list --project="$FCN_PROJECT" --format=json \
    --filter='direction=INGRESS AND disabled=false AND sourceRanges:0.0.0.0/0') ||
    fail "cannot read the firewall rules of $FCN_PROJECT; log in (gcloud auth login) and enable the Compute Engine API"
  python3 -c '
import json, sys
wide = []
for rule in json.load(sys.stdin):
  for allowed in rule.get("allowed", []):
    if allowed["IPProtocol"] != "icmp" and set(allowed.get("ports", ["all"])) - {"22", "3389"}:
      wide.append(rule["name"])
sys.exit(", ".join(sorted(set(wide))) or 0)' <<< "$rules" ||
    fail "the firewall rules listed above open ports of $FCN_PROJECT to everyone; restrict them, then try again"
}

slice_exists() {
  gcloud compute tpus tpu-vm describe "$slice" "${place[@]}" > /dev/null 2>&1
}

run() {
  local code=$root/.launch/code.tar workdir="$FCN_BUCKET/$1" command preemptible=()
  [ "$FCN_PREEMPTIBLE" = true ] && preemptible=(--preemptible)
  command="mkdir -p fcn_jax && tar -xf code.tar -C fcn_jax && cd fcn_jax && "
  command+="{ ~/.local/bin/uv --version || curl -LsSf https://astral.sh/uv/install.sh | sh; } && "
  command+="{ ~/env/bin/python -V || { rm -rf ~/env && ~/.local/bin/uv venv --python 3.11 ~/env; }; } && "
  # shellcheck disable=SC2088
  command+="~/.local/bin/uv pip install --python ~/env/bin/python -c constraints.txt -e '.[tpu,gcs]' && "
  command+="exec ~/env/bin/python -m fcn_jax.main $(printf '%q ' "--config=$2" "--workdir=$workdir" "${@:3}")"
  if [ -n "$dry_run" ] || ! slice_exists; then
    act gcloud compute tpus tpu-vm create "$slice" "${place[@]}" --accelerator-type="$FCN_SLICE_TYPE" \
      --version="$(runtime "$FCN_SLICE_TYPE")" "${preemptible[@]}"
  fi
  act tar -cf "$code" -C "$root" --exclude=./.git --exclude=./.venv --exclude=./.launch --exclude=./runs .
  act gcloud compute tpus tpu-vm scp "$code" "$slice:" "${place[@]}" --worker=all
  act gcloud compute tpus tpu-vm ssh "$slice" "${place[@]}" --worker=all --command="$command"
}

down() {
  act ray down --yes "$cluster"
  if [ -n "$dry_run" ] || slice_exists; then
    act gcloud compute tpus tpu-vm delete "$slice" "${place[@]}" --quiet
  fi
  echo 'what is left and may cost money (empty lists if nothing is left):'
  act gcloud compute tpus tpu-vm list "${place[@]}"
  act gcloud compute instances list --project="$FCN_PROJECT" --filter="labels.ray-cluster-name=$FCN_NAME"
  act gcloud compute disks list --project="$FCN_PROJECT" --filter="labels.ray-cluster-name=$FCN_NAME"
  echo "the runs remain in $FCN_BUCKET and cost money until you delete them: gcloud storage rm --recursive $FCN_BUCKET"
}

arguments=()
for argument in "$@"; do
  if [ "$argument" = --dry_run ]; then dry_run=yes; else arguments+=("$argument"); fi
done
set -- "${arguments[@]}"
verb=${1:-}
[ $# -gt 0 ] && shift
case $verb in
up | status | down) [ $# = 0 ] || fail "tpu $verb takes no argument; got $*" ;;
logs | report) [ $# = 1 ] || fail "expected the name of a sweep, for example ./launch.sh tpu $verb ablation" ;;
sweep | run) [ $# -gt 0 ] || fail "expected an experiment, for example ./launch.sh tpu $verb experiments/ablation.py" ;;
'' | help | --help) sed -n '2,21s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit ;;
*) fail "there is no tpu $verb; expected up, sweep, run, status, logs, report or down" ;;
esac

settings
slice=$FCN_NAME-slice
place=(--zone="$FCN_ZONE" --project="$FCN_PROJECT")
[ -n "$dry_run" ] || needs gcloud ray
render
# Sweeps and runs are named after their experiment: experiments/skips.py:stanford_background becomes
# skips-stanford_background.
name=$(basename "${1:-}" | sed 's/\.py//; s/:/-/')

case $verb in
up)
  [ -n "$dry_run" ] || check_firewall
  act ray up --yes "$cluster"
  ;;
sweep)
  # shellcheck disable=SC2088 # ~ is expanded on the head node
  act ray rsync-up "$cluster" "$root/" '~/fcn_jax/'
  command=$(printf '%q ' -m fcn_jax.sweep --backend=ray "--tpus_per_run=$FCN_TPUS_PER_RUN" \
    "--config=$1" "--workdir=$FCN_BUCKET/$name" "${@:2}")
  # One job per sweep: a finished job of the same name is deleted first.
  on_head "{ ray job delete $name > /dev/null 2>&1; ray job submit --no-wait --submission-id=$name --working-dir=. -- ~/env/bin/python $command; }"
  ;;
run) run "$name" "$@" ;;
status) on_head 'ray status && ray job list && ray list tasks --limit=1000 --filter=state!=FINISHED' ;;
logs) on_head "ray job logs --follow $(printf %q "$1")" ;;
report) on_head "python -m fcn_jax.report $(printf %q "$FCN_BUCKET/$1")" ;;
down) down ;;
esac
