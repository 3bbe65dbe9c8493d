"Two processes of torchrun against one, and the commands that look at results: rp_status and rp_verify"
import json, os, shutil, signal, socket, subprocess, sys
from pathlib import Path
import pytest
from remember_past.lab import commands as V
from remember_past.lab.settings import complete
from remember_past.lab.distillation import run_distillation
from remember_past.lab.profiles import settings_for
from remember_past.memory import Memory
from remember_past.lab.runs import Run
from remember_past.atomic_files import write_bytes
from test_survive import SMALL, clone, command, ended, grid, heed, one_thread

PAIRS = [f'{k}={v}' for k, v in (SMALL | dict(inits=2)).items()]


def by_torchrun(*words):
    "Two ranks, started and watched by torchrun"
    p = subprocess.run([sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2', '-m', 'remember_past.lab.torchrun', *map(str, words)],
                       capture_output=True, text=True, timeout=500, env=environment())
    return p.returncode, p.stdout + p.stderr


def by_hand(*words):
    "Two ranks, one of which keeps the store: exit codes and what was said, rank by rank"
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); port = s.getsockname()[1]
    where = dict(WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    ps = [subprocess.Popen([sys.executable, '-m', 'remember_past.lab.torchrun', *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           env=environment() | where | dict(RANK=str(r), LOCAL_RANK=str(r))) for r in (0, 1)]
    said = [p.communicate(timeout=500)[0] for p in ps]
    return [p.returncode for p in ps], said


def by_ranks(*words):
    "Two ranks, started by the command itself"
    return subprocess.Popen([sys.executable, '-m', 'remember_past.lab.torchrun', '--ranks', '2', *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, env=environment(), preexec_fn=heed)


def children(pid):
    "Environment of each child, by its process"
    parent = lambda p: int((p/'stat').read_text().rsplit(')', 1)[1].split()[1])
    return {int(p.name): (p/'environ').read_text() for p in Path('/proc').glob('[0-9]*') if os.access(p/'environ', os.R_OK) and parent(p) == pid}


def listening(pids):
    "Addresses on which these processes listen, as the kernel writes them"
    mine = {os.readlink(f) for pid in pids for f in Path(f'/proc/{pid}/fd').iterdir() if f.is_symlink()}
    lines = [l.split() for f in ('tcp', 'tcp6') for l in Path(f'/proc/net/{f}').read_text().splitlines()[1:]]
    return {l[1].split(':')[0] for l in lines if l[3] == '0A' and f'socket:[{l[9]}]' in mine}


def environment(): return {k: v for k, v in os.environ.items() if k not in ('IN_TEST', 'MASTER_PORT', 'MASTER_ADDR', 'RANK')}


def test_two_ranks_are_one_process_with_two_inits(tmp_path):
    "gloo, two ranks with one fresh network each, by settings over a profile: the memory of one process with both, to float error; every rank ends in order"
    out, words = tmp_path/'two.safetensors', [*PAIRS, '--profile', 'quick', '--runs', tmp_path/'two', '--out']
    code, said = by_torchrun(*words, out)
    assert code == 0, said
    one = run_distillation(settings_for(PAIRS, profile='quick'), tmp_path/'one')
    a, b = Memory.load(out), Memory.load(tmp_path/'one'/'cells'/one['run']/'memory.safetensors')
    for x, y in zip(a.parameters(), b.parameters()): assert (x-y).abs().max() < 1e-6
    assert json.loads((tmp_path/'two'/'cells'/one['run']/'record.json').read_text())['settings'] == one['settings']
    codes, said = by_hand(*words, tmp_path/'again.safetensors')   # the record is there: nothing to compute, and all leave
    assert codes == [0, 0], said
    assert (tmp_path/'again.safetensors').read_bytes() == out.read_bytes()


@pytest.mark.skipif(not Path('/proc/net/tcp').exists(), reason='who listens is read from /proc')
def test_a_rank_is_killed(tmp_path):
    "Its death ends the others, in one sentence and with a checkpoint; the same command goes on; nothing ever listens on the network"
    settings, out = SMALL | dict(inits=2, iterations=300), tmp_path/'two.safetensors'
    words = [*(f'{k}={v}' for k, v in settings.items()), '--runs', tmp_path/'two', '--out', out]
    p, said = by_ranks(*words), ''
    while '  distil ' not in said:
        said += (line := p.stdout.readline())
        assert line, said
    ranks = children(p.pid)
    assert listening([p.pid, *ranks]) == {'0100007F'}                 # 127.0.0.1
    os.kill(next(pid for pid, env in ranks.items() if '\0RANK=1\0' in env), signal.SIGKILL)
    said += p.communicate(timeout=200)[0]
    assert p.returncode == 2 and 'the same command goes on' in said and 'Traceback' not in said, said
    run = Run(tmp_path/'two', 'cells', complete(**settings))
    assert 1 <= run.load_checkpoint()['iteration'] < 300, said
    p = by_ranks(*words); said = p.communicate(timeout=500)[0]
    assert p.returncode == 0, said
    one = run_distillation(complete(**settings), tmp_path/'one')
    a, b = Memory.load(out), Memory.load(tmp_path/'one'/'cells'/one['run']/'memory.safetensors')
    for x, y in zip(a.parameters(), b.parameters()): assert (x-y).abs().max() < 1e-5
    assert not list((tmp_path/'two').rglob('checkpoint*'))


def test_status_and_verify(clone, capsys):
    "Every state of an experiment is shown; a whole table stands, an edited record and a swapped memory do not"
    grid(clone, dict(seed=[0, 1, 2, 3]), dict(seed=4, data='svhn'))
    with pytest.raises(SystemExit): V.rp_status(['tinny'])
    assert 'did you mean tiny?' in capsys.readouterr().err
    settings = [complete(**SMALL, seed=s) for s in range(4)]
    records = [run_distillation(s, clone/'runs') for s in settings[:2]]
    write_bytes(Run(clone/'runs', 'cells', settings[2]).folder/'failed.json', b'{"error": "there was no room"}')
    with Run(clone/'runs', 'cells', settings[3]).locked(): V.rp_status(['tiny'])
    said = capsys.readouterr().out
    for part in ('failed: there was no room', f'running in process {os.getpid()}', 'missing, and so is the data set svhn', '5 experiments: 2 done, 1 running, 1 failed, 1 missing'): assert part in said
    V.rp_verify('tiny', nets=3)
    said = capsys.readouterr().out
    assert said.count('not compared') == 2 and said.count('not made yet') == 3  # three tiny networks tell too little

    folders = [clone/'runs'/'cells'/r['run'] for r in records]
    V.rp_verify(str(folders[0]/'memory.safetensors'), nets=2); capsys.readouterr()
    shutil.copy(folders[1]/'memory.safetensors', folders[0]/'memory.safetensors')
    for what in ('tiny', str(folders[0]/'record.json')):
        with pytest.raises(SystemExit) as e: V.rp_verify(what)
        assert e.value.code == 2 and 'is not the memory' in capsys.readouterr().err
    record = folders[1]/'record.json'
    record.write_text(record.read_text().replace('"mean": ', '"mean": 1'))
    with pytest.raises(SystemExit) as e: V.rp_verify(str(record))
    assert e.value.code == 2 and 'checksum' in capsys.readouterr().err


def test_a_claim_that_does_not_stand(clone, capsys):
    "Whoever recomputes the checksum of an edited record still has to train as well"
    grid(clone, dict(seed=0, eval_nets=6))
    settings = complete(**SMALL | dict(eval_nets=6))
    record = run_distillation(settings, clone/'runs')
    run, better = Run(clone/'runs', 'cells', settings), [a/2 + 50 for a in record['accuracy']]
    memory = Memory.load(run.folder/'memory.safetensors')
    memory.meta |= dict(accuracy=better)
    memory.save(run.folder/'memory.safetensors')
    import hashlib
    keep = {k: v for k, v in record.items() if k not in ('path', 'checksum')}
    run.finish(keep | dict(accuracy=better, memory_sha256=hashlib.sha256((run.folder/'memory.safetensors').read_bytes()).hexdigest()))
    with pytest.raises(SystemExit) as e: V.rp_verify('tiny')
    assert e.value.code == 1 and 'differs; recorded' in capsys.readouterr().out
