"The commands: what is refused, what a failure and an interrupt leave behind, and the road from a name to a table"
import json, os, shutil, signal, subprocess, sys
from pathlib import Path
import pytest, torch
from remember_past.lab import commands as R
from remember_past.lab.papermill import store_outputs
from remember_past.lab.reproduce import reproduce
from remember_past.lab.results import memory_path
from remember_past.memory import Memory

HERE = Path(__file__).resolve().parents[1]
TINY = '''
  defaults: {data: digits, whiten: standardize, scale: 1, bases: 6, width: 4, depth: 2, inner_steps: 4, inner_lr: 0.1, per_class: 4, outer: adam, outer_lr: 0.02,
             real_per_class: 8, iterations: 3, eval_nets: 2, eval_epochs: 5, eval_lr: 0.1}
  experiments:
'''


@pytest.fixture
def clone(tmp_path, monkeypatch):
    "What the commands need of a repository: its settings.ini, its paper notebooks, and no data but the digits"
    home = tmp_path/'clone'
    shutil.copytree(HERE/'nbs'/'paper', home/'nbs'/'paper', ignore=shutil.ignore_patterns('.ipynb_checkpoints'))
    shutil.copy(HERE/'settings.ini', home)
    monkeypatch.setenv('REMEMBER_PAST_DATA', str(tmp_path/'nothing'))
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    monkeypatch.delenv('IN_TEST', raising=False)
    monkeypatch.chdir(home)
    return home


def params(clone, text, name='table1'): (clone/'nbs/paper/params'/f'{name}.yml').write_text(text)
def tiny(lines, profile='quick'): return 'paper: {experiments: [{data: [mnist, cifar10], ipc: 1}]}\n' + f'{profile}:{TINY}' + ''.join(f'    - {l}\n' for l in lines)
def files(folder): return sorted(p.relative_to(folder).as_posix() for p in folder.rglob('*'))
def heed(): signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore Ctrl-C, and so would their children
def command(name, *args, **kw): return subprocess.Popen([sys.executable, '-c', f'from remember_past.lab.commands import {name}; import sys; sys.argv[0] = {name!r}; {name}()', *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed, **kw)


def refused(clone, capsys, f, *args, says, **kw):
    "Exit 2, one sentence, nothing printed, nothing written"
    before = files(clone)
    with pytest.raises(SystemExit) as e: f(*args, **kw)
    out, err = capsys.readouterr()
    assert e.value.code == 2 and says in err and out == ''
    assert err.count('\n') == 1 and err.startswith(f'{f.__name__}: ') and 'Traceback' not in err
    assert files(clone) == before


@pytest.mark.parametrize('kw, says', [
    (dict(names=['tabel1']), 'did you mean table1?'),
    (dict(names=['table1'], profile='quik'), 'did you mean quick?'),
    (dict(names=['table1'], runs='nbs/paper/table1.ipynb'), 'cannot write'),
    pytest.param(dict(names=['table1'], device='cuda'), 'cuda', marks=pytest.mark.skipif(torch.cuda.is_available(), reason='has a GPU')),
])
def test_reproduce_refuses(clone, capsys, kw, says): refused(clone, capsys, R.rp_reproduce, says=says, **kw)


@pytest.mark.parametrize('text, says', [
    ('quick: {defaults: {inner_step: 20}, experiments: [{ipc: 1}]}', 'did you mean inner_steps?'),
    ('quick: {experiments: [{data: digits, inner_step: 20}]}', 'inner_steps'),
    ('quick: {experiments: [{data: cifar11, ipc: 1}]}', 'did you mean cifar10?'),
    ('quick: {experiment: [{data: digits}]}', 'did you mean experiments?'),
    ('quick: {experiments: [{data: digits, bases: 0}]}', 'bases'),
    ('quick: {experiments: [{data: digits, ipc: 0}]}', 'ipc'),
    ('quick: {experiments: [{data: digits, ipc: 1, bases: 11, scale: 1, whiten: none}]}', 'too small'),
    ('quick: {where: {ipc: 50}, experiments: [{ipc: 1}]}', 'must be written as ipc'),
    ('paper: {defaults: {inner_step: 20}}\nquick: {experiments: [{data: digits}]}', 'did you mean inner_steps?'),
    ('paper: [1]\nquick: {experiments: [{data: digits}]}', 'must hold the parts'),
    ('quik: {}\nquick: {}', 'did you mean quick?'),
    ('include: table1\nquick: {}', 'includes a file itself'),
    ('include: table7\nquick: {}', 'cannot read'),
    ('small: {}', "there is no 'table1' at profile quick"),
    ('quick: [oops', 'not valid YAML'),
    ('- 1', '"key: value" pairs'),
    ('quick: {experiments: [{data: digits, bases: 6, scale: 1}], notebook: {profil: quick}}', 'did you mean profile?'),
])
def test_parameter_files_are_checked_first(clone, capsys, text, says):
    params(clone, text)
    refused(clone, capsys, R.rp_reproduce, ['table1'], says=says)


@pytest.mark.parametrize('pairs, says', [
    (['data=digitz'], 'did you mean digits?'), (['data=none.npz'], 'none.npz'), (['iterations'], 'KEY=VALUE'), (['inner_step=3'], 'inner_steps'),
    (['data=digits', 'bases=0'], 'bases'), (['data=digits', 'scale=1', 'bases=64'], 'too small'), (['data=digits', 'method=random'], 'learns no memory'),
    (['method=[1]'], 'one number or word'), (['data=digits', 'augment=5'], 'in one word'), (['data=digits', 'eval_lr=null'], 'learns no rate'), (['data=digits', 'method=cafe', 'halve=often'], 'give numbers'),
])
def test_distill_refuses(clone, capsys, pairs, says): refused(clone, capsys, R.rp_distill, pairs, says=says)


def test_memory_files_that_are_none(clone, capsys):
    m = Memory.per_class(1, (1, 8, 8), [str(i) for i in range(10)])
    whole = m.save(clone/'whole.safetensors').read_bytes()
    (clone/'cut.safetensors').write_bytes(whole[:-5])
    torch.save({}, clone/'pickle.safetensors')
    for f in (R.rp_evaluate, R.rp_recall):
        for name in ('cut', 'pickle', 'none'): refused(clone, capsys, f, f'{name}.safetensors', says=f'{name}.safetensors')
    refused(clone, capsys, R.rp_recall, 'whole.safetensors', out='recall.jpg', says='must end in')
    refused(clone, capsys, R.rp_recall, 'whole.safetensors', out='whole.safetensors/recall.png', says='cannot write')
    refused(clone, capsys, R.rp_evaluate, 'whole.safetensors', data='digitz', says='did you mean digits?')
    refused(clone, capsys, R.rp_evaluate, 'whole.safetensors', says='give --data')  # made from Python, it does not say from what
    R.rp_recall('whole.safetensors', out='recall.npz'); R.rp_recall('whole.safetensors', out='recall.png')
    assert (clone/'recall.png').read_bytes()[1:4] == b'PNG' and (clone/'recall.npz').exists()


def test_a_memory_speaks_of_its_own_network(clone, capsys):
    "rp_evaluate takes the network of the memory's own evaluation; a memory that is gone is one sentence"
    pairs = ['data=digits', 'whiten=standardize', 'method=bptt', 'net=mlp', 'inner_steps=3', 'per_class=1', 'iterations=2', 'eval_nets=2', 'eval_epochs=40', 'eval_lr=0.1']
    R.rp_distill(pairs, out='m.safetensors')
    learned = capsys.readouterr().out.splitlines()[-1]
    R.rp_evaluate('m.safetensors', nets=2)
    said = capsys.readouterr().out
    assert 'with mlp' in said and f', {said.split(" %")[0]} %' in learned
    R.rp_evaluate('m.safetensors', nets=2, net='convnet', width=4, depth=2)
    assert 'with convnet of 2 blocks and 4 channels' in capsys.readouterr().out
    R.rp_recall('m.safetensors', out='m.npz'); assert 'digits, bptt' in capsys.readouterr().out
    next((clone/'runs/cells').glob('*/memory.safetensors')).unlink()
    with pytest.raises(SystemExit) as e: R.rp_distill(pairs, out='again.safetensors')
    assert e.value.code == 2 and 'is gone' in capsys.readouterr().err and not (clone/'again.safetensors').exists()


def test_outside_of_a_repository(tmp_path, monkeypatch, capsys):
    "The package's own parameter files say what there is to make; nothing is written by asking"
    monkeypatch.chdir(tmp_path)
    R.rp_reproduce(['table1'], dry_run=True)
    assert ' to make, ' in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_console_script_refuses(clone):
    "The installed command, not only the function behind it"
    p = command('rp_reproduce', 'tabel1')
    out, err = p.communicate(timeout=600)
    assert (p.returncode, out) == (2, '') and err.count('\n') == 1 and 'did you mean table1?' in err


def test_results_are_stored_from_committed_records(clone):
    "`make results`: the outputs of `small` in the source; code, ids and parameters as before; a second time nothing changes; --check writes nothing"
    params(clone, tiny(['{method: full, ipc: 1}'], profile='small'))
    page = clone/'nbs/paper/table1.ipynb'
    before = json.loads(page.read_text())
    assert store_outputs(clone, 'table1', write=False) and json.loads(page.read_text()) == before
    assert store_outputs(clone, 'table1') and not store_outputs(clone, 'table1')
    after = json.loads(page.read_text())
    bare = lambda nb: [(c['id'], c['source'], c['metadata']) for c in nb['cells']]
    assert bare(after) == bare(before) and 'Not run: 1. `rp_reproduce table1 --profile small` runs them.' in page.read_text()
    assert not (clone/'runs').exists() and not (clone/'figures').exists()


def test_from_a_name_to_a_table(clone, capsys):
    "One cell fails, one lacks its data, the others and the notebook are made; a second call makes nothing"
    params(clone, tiny(['{method: full, ipc: 1}', '{method: random, ipc: 10}', '{method: bptt, ipc: 1, inner_lr: 1.0e+30}', '{data: svhn, ipc: 1}']))
    with pytest.raises(SystemExit) as e: R.rp_reproduce(['table1'])
    said = capsys.readouterr().out
    assert e.value.code == 1
    assert 'svhn: not present in' in said and "run load_data('svhn') once" in said and 'failed: ' in said and 'table1  made' in said
    wrote = {p.name: p.read_bytes() for p in (clone/'runs/figures/quick').glob('*')}
    assert set(wrote) == {'table1.csv', 'table1.md', 'table1.png', 'table1.svg'} and len(wrote['table1.png']) <= 60_000
    assert b'not run' in wrote['table1.csv'] and b'66.4' in wrote['table1.csv']
    records = list((clone/'runs/cells').glob('*/record.json'))
    assert len(records) == 2 and len(list((clone/'runs/cells').glob('*/failed.json'))) == 1
    assert json.loads((HERE/'nbs/paper/table1.ipynb').read_text()) == json.loads((clone/'nbs/paper/table1.ipynb').read_text())   # the source is not written

    times = {p: p.stat().st_mtime_ns for p in [*records, *(clone/'runs/figures/quick').glob('*')]}
    with pytest.raises(SystemExit): R.rp_reproduce(['table1'])
    assert 'table1  up to date' in capsys.readouterr().out and all(p.stat().st_mtime_ns == t for p, t in times.items())

    later = clone/'nbs/paper/params/later.yml'
    later.write_text(later.read_text() + '# read by another notebook, perhaps by this one\n')
    with pytest.raises(SystemExit): R.rp_reproduce(['table1'])
    assert 'table1  made' in capsys.readouterr().out

    params(clone, tiny(['{method: random, ipc: 10}']))
    (clone/'runs/figures/quick/table1.md').unlink()
    R.rp_reproduce(['table1'])                     # nothing failed now: no exit; a lost file is made again
    assert 'table1  made' in capsys.readouterr().out and (clone/'runs/figures/quick/table1.md').exists()


def test_small_keeps_records_and_memories(clone):
    "What was published is found again without runs/"
    params(clone, tiny(['{method: full, ipc: 1}'], 'small'))
    found, _ = reproduce(['table1'], 'small')
    assert not (clone/'figures').exists()          # what a reader makes is not for git to see
    assert reproduce(['table1'], 'small', share=True)[1][0]['state'] == 'up to date'
    kept = files(clone/'figures/small')
    assert {'table1.csv', 'table1.md', 'table1.png', 'table1.svg'} < set(kept)
    assert [p.split('/')[0] for p in kept if p.count('/')] == ['memories', 'memories', 'records'] and 'memories/README.md' in kept
    assert f"| {found[0]['record']['mean']:.1f} ±" in (clone/'figures/small/memories/README.md').read_text()
    shutil.rmtree(clone/'runs')
    again, notebooks = reproduce(['table1'], 'small')
    assert again[0]['state'] == 'there' and again[0]['record']['mean'] == found[0]['record']['mean'] and notebooks[0]['state'] == 'made'
    assert Memory.load(memory_path(again[0]['record'])).K == 6


def test_interrupt_then_the_same_command(clone):
    "Ctrl-C: exit 130 and a sentence; the same command ends with the memory of an unbroken run, to the last bit"
    pairs = ['data=digits', 'whiten=standardize', 'scale=1', 'bases=6', 'width=8', 'depth=2', 'inner_steps=10', 'per_class=4', 'iterations=50', 'eval_nets=1', 'eval_epochs=2']
    p = command('rp_distill', *pairs, '--out', 'a.safetensors')
    while 'distil 1/' not in p.stdout.readline(): assert p.poll() is None
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=600)
    assert p.returncode == 130 and err.count('\n') == 1 and 'the same command goes on' in err
    run = next((clone/'runs/cells').iterdir())
    assert (run/'checkpoint.pt').exists() and not (run/'record.json').exists() and not (clone/'a.safetensors').exists()
    both = [command('rp_distill', *pairs, '--out', f'{out}.safetensors', '--runs', runs) for out, runs in (('a', 'runs'), ('b', 'other'))]
    for p in both:
        err = p.communicate(timeout=600)[1]
        assert p.returncode == 0, err
    assert (clone/'a.safetensors').read_bytes() == (clone/'b.safetensors').read_bytes()


def test_a_figure_too_large_is_drawn_coarsely_and_not_left_empty(tmp_path):
    import numpy as np
    from matplotlib.figure import Figure
    from remember_past.lab.tables import save_figure
    fig = Figure(figsize=(9, 9)); fig.subplots().imshow(np.random.default_rng(0).random((400, 400)))
    save_figure(fig, tmp_path, 'noise')
    assert (tmp_path/'noise.png').read_bytes().startswith(b'\x89PNG')
