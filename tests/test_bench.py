"The bench: every arm returns the same meta-gradient, memory grows by one weight vector a step, and a bench that cannot go on says so"
import json, multiprocessing, os, statistics
import pytest, torch
from remember_past.lab import arms as A, bench as B
from remember_past.lab.commands import rp_bench
from remember_past.errors import BadInput
from remember_past.nets import make_net, n_params
from remember_past.lab.records import find_records
from remember_past.atomic_files import write_json
from remember_past.engine.choose import steps_for

SMALL = dict(width=8, shape=(1, 8, 8), steps=4, batch=6)
quiet = lambda text: None


@pytest.fixture(autouse=True)
def threads():
    "One thread, as many as before afterwards"
    n = torch.get_num_threads(); torch.set_num_threads(1); yield; torch.set_num_threads(n)


def run(arm, case, dtype=torch.float64, T=None):
    "What an arm returns, or a skip where its library is missing"
    if arm in ('higher', 'torchopt'): pytest.importorskip(arm)
    return A.ARMS[arm][1](A.problem(case, dtype))(T or case['steps'])


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('net', ['convnet', 'mlp'])
@pytest.mark.parametrize('arm', [a for a in A.arms_for(A.bench_case()) if a != 'autograd'])
def test_same_gradient(arm, net):
    "In double precision each arm agrees with autograd through the loop"
    case = A.bench_case(net=net, **SMALL)
    assert A.difference(run(arm, case), run('autograd', case)) < 1e-10


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('on', [True, False])
def test_torchopt_momentum(on):
    "Momentum is inside the derivative of `MetaSGD`, whatever its flag says"
    pytest.importorskip('torchopt')
    p = A.problem(A.bench_case(**SMALL), torch.float64)
    assert A.difference(A.by_torchopt(p, on)(4), A.by_autograd(p)(4)) < 1e-10


def test_momentum_matters():
    "The comparison would notice a derivative without momentum"
    from remember_past.bptt import end_loss, unroll
    p = A.problem(A.bench_case(**SMALL), torch.float64)
    steps, X = steps_for(p.net), p.X.clone().requires_grad_()
    end = unroll(steps, steps.flat.flatten(p.w), X, p.Y, p.batches, p.lr, p.momentum, track_momentum=False)
    without = torch.autograd.grad(end_loss(steps, end, p.x, p.y), X)[0]
    assert A.difference(without, A.by_autograd(p)(4)) > B.DIFFERS


def test_single_precision():
    "Single precision stays close to double; where rounding puts a ReLU on its other side, and on which machine, nobody can promise: so the median of seven"
    cases = [A.bench_case(width=32, steps=10, batch=20, seed=seed) for seed in range(7)]
    assert statistics.median(A.difference(run('ours', c, torch.float32), run('ours', c)) for c in cases) < 1e-5


def test_evaluation_arms():
    case = A.bench_case(nets=3, **SMALL)
    assert A.difference(run('together', case), run('single', case)) < 1e-10
    assert A.arms_for(case) == ['together', 'single']


def test_floor_by_hand():
    "One block of width 4 on 8x8 images, then ten classes: 2*64*4*9 + 2*64*10 operations an image; nine passes, T steps"
    net = make_net('convnet', (1, 8, 8), 10, 4, 1)
    assert A.forward_flops(net, (1, 8, 8), 5) == 5*(2*64*4*9 + 2*64*10) == 29440
    row = dict(case=A.bench_case(steps=7, batch=5), flops=29440, throughput=[[1e6, 0.], [2e6, 9e9]], arms={})
    assert B.floor_seconds(row) == pytest.approx(9*7*29440/2e6)
    assert B.floor_seconds(row | dict(throughput=[])) is None


def test_memory_a_step():
    "Growth of the peak a step is one weight vector and no more, measured in a process of its own"
    case = A.bench_case(width=128, steps=43, batch=4)
    arm = B._Arm('ours', case)
    try: entry = B._begin(arm, case, 120, 24); B._turn(arm, entry, case, None, 120)
    finally: arm.close()
    vector = 4*n_params(make_net('convnet', (1, 28, 28), 10))
    assert entry['state'] == 'measured' and .5 < entry['per_step']/vector <= 1.2, entry
    assert not arm.process.is_alive()


def test_what_cannot_run():
    "An arm that needs too much is not run, one that fails says why in one line, and a gradient that differs is marked"
    case = A.bench_case(**SMALL | dict(net='mlp'))
    row = B.measure(case, ['ours', 'autograd'], 1, 120, 1e-9, threads=1, say=quiet)
    assert row['arms']['autograd']['state'].startswith('not run: needs')
    broken = B._Arm('nothing', case | dict(net='convnett'))
    try: entry = B._begin(broken, case, 60, 24)
    finally: broken.close()
    assert entry['state'].startswith('failed: BadInput') and '\n' not in entry['state']
    killed = B._Arm('ours', case)
    try: killed.answer(); killed.process.kill(); entry = dict(state='measured', wall=[], probe=[1, 0]); B._turn(killed, entry, case, None, 60)
    finally: killed.close()
    assert entry['state'] == 'failed: its process ended with exit code -9 (killed; out of memory?)'
    e = dict(state='measured', wall=[1.], cpu=[1.], warm=0, peak=1, start=0, per_step=0, error=.5)
    assert B.line_of(dict(case=case, flops=1, throughput=[], arms=dict(ours=e)), 'ours')['state'] == 'differs by 5e-01'
    assert B.line_of(dict(case=case, flops=1, throughput=[], arms=dict(ours=e | dict(error=float('nan')))), 'ours')['state'].startswith('differs')


def test_missing_peer(monkeypatch):
    "A library that is not installed is named, with the extra that has it"
    import sys
    monkeypatch.setitem(sys.modules, 'higher', None)
    with pytest.raises(ImportError) as e: A.by_higher(A.problem(A.bench_case(**SMALL)))
    assert B.one_line(e.value) == "higher is not installed; pip install 'remember_past[bench]'"


def test_record(tmp_path, monkeypatch):
    "Rows that are there are kept, the record is whole, a second bench measures nothing, and a copy can be published"
    cases = [(A.bench_case(**SMALL | dict(net='mlp', steps=t)), ['ours'], 1) for t in (2, 3)]
    monkeypatch.setitem(B.GRIDS, 'quick', lambda: [(c, a, m) for c, a, m in cases])
    s = B.bench_settings('quick', threads=1)
    folder = tmp_path/'bench'/B.Run(tmp_path, 'bench', s).hash
    real, done = B.measure, []
    def measure(case, *a, **k): done.append(case['steps']); return real(case, *a, **k) if len(done) == 1 else stop(case)
    def stop(case): raise KeyboardInterrupt
    monkeypatch.setattr(B, 'measure', measure)
    with pytest.raises(KeyboardInterrupt): B.bench(s, tmp_path, say=quiet)
    assert done == [2, 3] and len(json.loads((folder/'rows.json').read_text())) == 1
    kept = json.loads((folder/'rows.json').read_text())[0]
    monkeypatch.setattr(B, 'measure', lambda case, *a, **k: kept | dict(case=case))
    record = B.bench(s, tmp_path, say=quiet)
    assert [r['case']['steps'] for r in record['rows']] == [2, 3] and record['rows'][0] == kept
    assert record['threads'] == 1 and record['versions']['torch'] and len(record['load']) == 2 and record['date']
    monkeypatch.setattr(B, 'measure', None)
    said = []
    assert B.bench(s, tmp_path, say=said.append) == record and '--fresh' in said[0]
    assert [r['run'] for r in B.bench_records(tmp_path, tmp_path)] == [record['run']]
    copy = B.publish_record(record, tmp_path)
    assert copy.parent == tmp_path/'figures'/'bench'/'records' and B.bench_records(tmp_path, tmp_path)[0]['path'] == copy.as_posix()
    (folder/'rows.json').write_text('[{"case"')
    assert B.kept_rows(folder/'rows.json') == []


@pytest.mark.parametrize('kw, says', [
    (dict(grid='quik'), 'did you mean quick?'),
    (dict(repeats=0), 'repeats is 0'),
    (dict(seconds=-1.), 'seconds is -1'),
    (dict(threads=0), 'threads is 0'),
    (dict(arms=['autogad']), 'did you mean autograd?'),
    (dict(arms=['single']), 'leave --arms out'),
    (dict(grid='cuda'), '--device cuda'),
    pytest.param(dict(grid='cuda', device='cuda'), 'CUDA', marks=pytest.mark.skipif(torch.cuda.is_available(), reason='has a GPU')),
])
def test_refuses(tmp_path, monkeypatch, capsys, kw, says):
    "Exit 2, one sentence, nothing written"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as e: rp_bench(**kw)
    out, err = capsys.readouterr()
    assert e.value.code == 2 and says in err and err.count('\n') == 1 and out == '' and not list(tmp_path.iterdir())


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device here; `rp_bench --grid cuda --device cuda` is the whole of it')
def test_cuda():
    "On a card: the same gradients, and growth a step counted on the card"
    row = B.measure(A.bench_case(width=16, shape=(3, 32, 32), steps=12, batch=16), ['ours', 'func', 'autograd', 'stored'], 2, 300, 24, 'cuda', say=quiet)
    said = {a: (e['state'], e['error']) for a, e in row['arms'].items()}
    errors = [e for _, e in said.values()]  # from double precision; a card multiplies convolutions in TF32, so what counts is that all arms are off by the same
    assert {state for state, _ in said.values()} == {'measured'} and max(errors) < .1 and max(errors) - min(errors) < 1e-3, said


def fake_record(folder, grid='quick'):
    "A record whose arms take 1, 2, 3 .. times as long as ours"
    s, rows = B.bench_settings(grid, threads=1), []
    for case, arms, most in s['cases']:
        entry = lambda i: dict(state='measured', start=0, warm=.5, probe=[3, 0], predicted=dict(seconds=1., bytes=2**20), per_step=1.3e6, wall=[i]*most, cpu=[i]*most, peak=i*2**24, error=1e-4)
        rows.append(dict(case=case, threads=1, load=[.1, .2], throughput=[[1e12, 2e12]], flops=10**9, arms={a: entry(i + 1.) for i, a in enumerate(arms)}))
    rows[-1]['arms']['autograd'] = dict(rows[-1]['arms']['autograd'], state='not run: needs 38 GiB', wall=[], cpu=[])
    return B.Run(folder, 'bench', s).finish(dict(rows=rows, cuda='skipped: no CUDA device here', load=[.1, .2]))


@pytest.mark.parametrize('measured', [True, False])
def test_cost_notebook(tmp_path, monkeypatch, measured):
    "The notebook lays a record out, and says of what is not there that it is not"
    from pathlib import Path
    from remember_past.lab import repository
    if measured: fake_record(tmp_path/'runs')
    monkeypatch.setattr(repository, 'repo_root', lambda: tmp_path)
    cells = json.loads((Path(__file__).parents[1]/'nbs'/'paper'/'cost.ipynb').read_text(encoding='utf-8'))['cells']
    ns = {}
    for c in cells:
        if c['cell_type'] == 'code': exec(''.join(l for l in c['source'] if not l.startswith('%')), ns)
        if 'parameters' in c['metadata'].get('tags', []): ns.update(profile='quick', runs=str(tmp_path/'runs'), out=str(tmp_path/'out'))
    assert {p.name for p in (tmp_path/'out').iterdir()} == {f'cost.{e}' for e in ('csv', 'md', 'png', 'svg')}
    assert (tmp_path/'out'/'cost.png').stat().st_size > 2000
    table, kept, text = ns['table'], ns['kept'], (tmp_path/'out'/'cost.csv').read_text()
    assert list(table['ours'])[-2:] == ['not measured']*2 and 'not measured' in text
    if not measured:
        assert set(table['ours']) == {'not measured'} and not any(k['holds'] for k in kept)
    else:
        assert table.loc[0, 'autograd through the loop'] == '3.00' and table.loc[0, 'ours'].startswith('1.00 s')
        assert table.loc[0, 'floor'] == '5.6'                      # 9 passes * 20 steps * 1e9 operations at 1e12 a second
        assert table.loc[4, 'autograd through the loop'] == '–' and '38' in ns['dash']
        holds = {k['promise']: k['holds'] for k in kept}
        assert holds['ConvNet 128, 20 steps: autograd through the loop takes at least 3 times as long'] == 'yes'
        assert holds['ConvNet 128: ours over the floor'] == 'no' and holds['ConvNet 128: growth of peak memory a step, in weight vectors'] == 'yes'
        assert [v for k, v in holds.items() if '200 steps' in k] == ['yes'] and [v for k, v in holds.items() if 'CUDA' in k] == ['', '']
