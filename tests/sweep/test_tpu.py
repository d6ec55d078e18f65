"""launch.sh on Cloud TPU, with a fake `ray` and a fake `gcloud` that record their arguments."""

import copy
import json
import os
import pathlib
import shutil
import subprocess

import pytest
import tiny
import yaml

SETTINGS = {
  'FCN_PROJECT': 'my-project',
  'FCN_ZONE': 'us-central1-a',
  'FCN_BUCKET': 'gs://bucket/fcn/',
  'FCN_TPU_TYPE': 'v5litepod-8',
}
PLACE = ['--zone=us-central1-a', '--project=my-project']
FAKE = """#!/usr/bin/env python3
import json, os, pathlib, sys
name, *words = pathlib.Path(sys.argv[0]).name, *sys.argv[1:]
with open(os.environ['CALLS'], 'a') as calls:
  calls.write(json.dumps([name, *words]) + '\\n')
if 'firewall-rules' in words:
  print(os.environ.get('RULES', '[]'))
sys.exit('describe' in words and 'SLICE' not in os.environ)
"""


@pytest.fixture
def project(tmp_path):
  """A copy of the files that launch.sh needs, in which it may write, with the two fake tools."""
  for name in ('launch.sh', 'infra', 'pyproject.toml', 'constraints.txt'):
    source = tiny.ROOT / name
    (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
  (tmp_path / 'bin').mkdir()
  for tool in ('ray', 'gcloud'):
    (tmp_path / 'bin' / tool).write_text(FAKE)
    (tmp_path / 'bin' / tool).chmod(0o755)
  return tmp_path


def launch(project, *arguments, **env) -> subprocess.CompletedProcess:
  env_of_launch = {name: value for name, value in os.environ.items() if not name.startswith('FCN_')}
  env_of_launch |= {'PATH': f'{project}/bin:{os.environ["PATH"]}', 'CALLS': f'{project}/calls'} | SETTINGS | env
  command = [project / 'launch.sh', 'tpu', *arguments]
  return subprocess.run(
    command, env={n: x for n, x in env_of_launch.items() if x}, capture_output=True, text=True, timeout=60
  )


def calls(project) -> list[list[str]]:
  path = project / 'calls'
  return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def calls_of(project, *arguments, **env) -> list[list[str]]:
  """The recorded calls that change something; checks that a dry run prints the same calls and makes none."""
  done = launch(project, *arguments, **env)
  assert (done.returncode, done.stderr) == (0, ''), done.stderr
  found = [call for call in calls(project) if not {'describe', 'firewall-rules'} & set(call)]
  (project / 'calls').unlink()
  printed = launch(project, *arguments, '--dry_run', **env).stdout.splitlines()
  shell = 'import json, sys; print(json.dumps(sys.argv[1:]))'
  commands = [line for line in printed if line.startswith(('ray ', 'gcloud '))]
  commands = [subprocess.check_output(f"python3 -c '{shell}' {line}", shell=True, text=True) for line in commands]
  assert [json.loads(line) for line in commands] == found
  assert calls(project) == []
  return found


def on_head(project, command: str) -> list[str]:
  head = 'cd ~/fcn_jax && export RAY_AUTH_MODE=token PATH=$HOME/env/bin:$PATH && '
  return ['ray', 'exec', f'{project}/.launch/tpu.yaml', head + command]


def test_up_writes_a_cluster_file_that_ray_accepts(project):
  assert calls_of(project, 'up') == [['ray', 'up', '--yes', f'{project}/.launch/tpu.yaml']]
  from ray.autoscaler._private import util

  config = yaml.safe_load((project / '.launch' / 'tpu.yaml').read_text())
  prepared = util.prepare_config(copy.deepcopy(config))
  util.validate_config(prepared)
  assert config['provider'] == {
    'type': 'gcp',
    'region': 'us-central1',
    'availability_zone': 'us-central1-a',
    'project_id': 'my-project',
  }
  types = config['available_node_types']
  assert 'TPU' not in types['head']['resources'] and 'schedulingConfig' not in types['head']['node_config']
  assert types['tpu']['resources']['TPU'] == 8 and types['tpu']['min_workers'] == 0
  assert types['tpu']['node_config'] == {
    'acceleratorType': 'v5litepod-8',
    'runtimeVersion': 'v2-alpha-tpuv5-lite',
    'schedulingConfig': {'preemptible': True},
  }
  assert types['tpu']['max_workers'] == config['max_workers'] == 4 and config['idle_timeout_minutes'] > 0


def test_every_node_has_the_token_and_requires_it(project):
  calls_of(project, 'up')
  config = yaml.safe_load((project / '.launch' / 'tpu.yaml').read_text())
  token = project / '.launch' / 'token'
  assert config['file_mounts']['~/.ray/auth_token'] == str(token)
  assert len(token.read_text().strip()) == 64 and token.stat().st_mode & 0o077 == 0
  before = token.read_text()
  calls_of(project, 'status')
  assert token.read_text() == before, 'running nodes would not have a new token'
  for kind in ('head', 'worker'):
    starts = [line for line in config[f'{kind}_start_ray_commands'] if 'ray start' in line]
    assert starts and all('RAY_AUTH_MODE=token ' in line for line in starts)
  (head,) = (line for line in config['head_start_ray_commands'] if 'ray start' in line)
  assert '--dashboard-host=127.0.0.1' in head
  (worker,) = (line for line in config['worker_start_ray_commands'] if 'ray start' in line)
  assert '--address=$RAY_HEAD_IP:6379' in worker


def test_an_open_firewall_is_an_error(project):
  fine = {'name': 'ssh', 'allowed': [{'IPProtocol': 'tcp', 'ports': ['22']}, {'IPProtocol': 'icmp'}]}
  assert launch(project, 'up', RULES=json.dumps([fine])).returncode == 0
  (project / 'calls').unlink()
  for allowed in ({'IPProtocol': 'tcp', 'ports': ['22', '6379']}, {'IPProtocol': 'all'}):
    done = launch(project, 'up', RULES=json.dumps([fine, {'name': 'wide-open', 'allowed': [allowed]}]))
    assert done.returncode == 1 and 'wide-open' in done.stderr and 'ssh' not in done.stderr
    assert not any('up' in call for call in calls(project))


def test_sweep_submits_a_job_to_the_head_node(project):
  sync, submit = calls_of(project, 'sweep', 'experiments/ablation.py:voc2012', "--config.data.archive=gs://a b/it's")
  assert sync == ['ray', 'rsync-up', f'{project}/.launch/tpu.yaml', f'{project}/', '~/fcn_jax/']
  assert submit[:3] == ['ray', 'exec', f'{project}/.launch/tpu.yaml']
  before, _, command = submit[3].partition('--working-dir=. -- ')
  assert 'ray job submit --no-wait --submission-id=ablation-voc2012 ' in before and 'RAY_AUTH_MODE=token' in before
  words = subprocess.check_output(
    ['bash', '-c', f'printf "%s\\n" {command.rpartition(";")[0]}'], text=True
  ).splitlines()
  assert words[0].endswith('/env/bin/python') and words[1:] == [
    '-m',
    'fcn_jax.sweep',
    '--backend=ray',
    '--tpus_per_run=1',
    '--config=experiments/ablation.py:voc2012',
    '--workdir=gs://bucket/fcn/ablation-voc2012',
    "--config.data.archive=gs://a b/it's",
  ]


def test_run_starts_one_command_on_all_workers_of_a_slice(project):
  create, copied, ssh = calls_of(project, 'run', 'experiments/fcn8s.py', FCN_SLICE_TYPE='v4-32', FCN_NAME='mine')
  assert create == [
    *['gcloud', 'compute', 'tpus', 'tpu-vm', 'create', 'mine-slice', *PLACE],
    *['--accelerator-type=v4-32', '--version=tpu-ubuntu2204-base', '--preemptible'],
  ]
  assert copied[4:] == ['scp', f'{project}/.launch/code.tar', 'mine-slice:', *PLACE, '--worker=all']
  assert ssh[4:8] == ['ssh', 'mine-slice', *PLACE] and ssh[8] == '--worker=all'
  assert 'fcn_jax.main --config=experiments/fcn8s.py --workdir=gs://bucket/fcn/fcn8s' in ssh[9]
  assert (project / '.launch' / 'code.tar').exists()


def test_run_uses_an_existing_slice(project):
  done = launch(project, 'run', 'experiments/fcn8s.py', SLICE='there')
  assert done.returncode == 0 and not any('create' in call for call in calls(project))


def test_status_logs_and_report_run_on_the_head_node(project):
  (status,) = calls_of(project, 'status')
  assert status == on_head(
    project, 'ray status && ray job list && ray list tasks --limit=1000 --filter=state!=FINISHED'
  )
  assert calls_of(project, 'logs', 'ablation') == [on_head(project, 'ray job logs --follow ablation')]
  report = on_head(project, 'python -m fcn_jax.report gs://bucket/fcn/ablation')
  assert calls_of(project, 'report', 'ablation') == [report]


def test_down_deletes_everything_but_the_bucket_and_names_the_bucket(project):
  found = calls_of(project, 'down', SLICE='there')
  assert found[0] == ['ray', 'down', '--yes', f'{project}/.launch/tpu.yaml']
  assert found[1] == ['gcloud', 'compute', 'tpus', 'tpu-vm', 'delete', 'fcn-slice', *PLACE, '--quiet']
  assert [call[1:4] for call in found[2:]] == [
    ['compute', 'tpus', 'tpu-vm'],
    ['compute', 'instances', 'list'],
    ['compute', 'disks', 'list'],
  ]
  done = launch(project, 'down')
  assert 'gcloud storage rm --recursive gs://bucket/fcn' in done.stdout
  assert not any('delete' in call for call in calls(project)[1:])  # there is no slice


@pytest.mark.parametrize(
  ('arguments', 'env', 'words'),
  [
    (['up'], {'FCN_ZONE': '', 'FCN_BUCKET': ''}, ['FCN_ZONE FCN_BUCKET not set', 'launch.env']),
    (['up'], {'FCN_ZONE': 'us-central1'}, ['FCN_ZONE is us-central1; expected a zone']),
    (['up'], {'FCN_BUCKET': 'bucket'}, ['FCN_BUCKET is bucket; expected gs://']),
    (['up'], {'FCN_TPU_TYPE': 'v4-32'}, ['v4-32, of 16 chips', 'one host', 'up to 4']),
    (['up'], {'FCN_TPU_TYPE': 'h100'}, ['FCN_TPU_TYPE is h100']),
    (['up'], {'FCN_TPUS_PER_RUN': '16'}, ['FCN_TPUS_PER_RUN is 16', 'has 8 chips']),
    (['up', 'now'], {}, ['takes no argument']),
    (['sweep'], {}, ['expected an experiment']),
    (['logs'], {}, ['expected the name of a sweep']),
    (['upp'], {}, ['there is no tpu upp; expected up, sweep']),
  ],
  ids=str,
)
def test_errors_come_before_any_call(project, arguments, env, words):
  done = launch(project, *arguments, **env)
  assert done.returncode == 1 and done.stderr.startswith('error: ') and done.stderr.count('\n') == 1, done.stderr
  assert all(word in done.stderr for word in words), done.stderr
  assert calls(project) == []


def test_launch_env_provides_settings_and_the_environment_overrides_it(project):
  (project / 'launch.env').write_text('FCN_ZONE=europe-west4-b\nFCN_PROJECT=theirs\n')
  done = launch(project, 'down', '--dry_run', FCN_ZONE='')
  assert '--zone=europe-west4-b --project=my-project' in done.stdout, done.stderr


def test_without_gcloud_there_is_an_error_with_the_document_to_read(project):
  (project / 'bin' / 'gcloud').unlink()
  for tool in ('bash', 'env', 'cat', 'sed', 'dirname', 'readlink', 'basename', 'python3'):
    (project / 'bin' / tool).symlink_to(shutil.which(tool))
  done = launch(project, 'up', PATH=f'{project}/bin')
  assert done.returncode == 1 and 'gcloud is not installed; docs/tpu.md' in done.stderr


def test_help_lists_the_subcommands(project):
  done = launch(project, 'help')
  assert done.returncode == 0
  assert all(
    f'./launch.sh tpu {verb}' in done.stdout for verb in ('up', 'sweep', 'run', 'status', 'logs', 'report', 'down')
  )
  assert 'FCN_NAME' in done.stdout and 'set -euo' not in done.stdout


@pytest.mark.skipif(not shutil.which('shellcheck'), reason='there is no shellcheck on the PATH (a package of Debian)')
def test_shellcheck_finds_nothing():
  scripts = [tiny.ROOT / 'launch.sh', *pathlib.Path(tiny.ROOT / 'infra').glob('*.sh'), tiny.ROOT / '.ci' / 'run']
  done = subprocess.run(['shellcheck', *scripts], capture_output=True, text=True)
  assert done.returncode == 0, done.stdout
