"""Faults, each followed by the same command again: what remains equals an undisturbed run.

REMEMBER_PAST_KILLS sets how often workers are killed in the long test (5 unless set; 20 is the number that the project was accepted with).
"""
import json, os, random, shutil, signal, subprocess, sys, time, warnings
from pathlib import Path
import pytest, torch, yaml
from remember_past import workers as W
from remember_past.cells import cell_settings, run_cell
from remember_past.errors import BadInput
from remember_past.runs import Run, find_records

HERE = Path(__file__).resolve().parents[1]
SMALL = dict(data='digits', whiten='standardize', scale=1, bases=6, width=4, depth=2, inner_steps=4, inner_lr=.1, per_class=4, outer='adam', outer_lr=.02,
             real_per_class=8, iterations=12, eval_nets=2, eval_epochs=3, eval_lr=.1)
LONG = SMALL | dict(iterations=150, inner_steps=8)


def cells(n, **changes): return [dict(settings=cell_settings(**SMALL | changes, seed=s)) for s in range(n)]
def numbers(records): return {r['run']: (r['accuracy'], r['floats'], r['history'][-1]['loss'] if r['history'] else None) for r in records}
def memories(runs): return {p.parent.name: p.read_bytes() for p in Path(runs).glob('cells/*/memory.safetensors')}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    "Records are compared to the last bit, so every process has the same number of threads"
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    before = torch.get_num_threads(); torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
    "The same cells, made by nobody's interference in this process"
    runs = tmp_path_factory.mktemp('undisturbed')
    torch.set_num_threads(1)
    todo = cells(3) + [dict(settings=cell_settings(**LONG))]
    W.make_in_turn(todo, runs, out=open(os.devnull, 'w'))
    assert [r['state'] for r in todo] == ['made']*4
    return runs


@pytest.fixture
def clone(tmp_path, monkeypatch):
    "What the command needs of a repository"
    home = tmp_path/'clone'
    (home/'nbs'/'paper'/'params'/'quick').mkdir(parents=True)
    for name in ('published.yml',): shutil.copy(HERE/'nbs'/'paper'/'params'/name, home/'nbs'/'paper'/'params')
    shutil.copy(HERE/'settings.ini', home)
    (home/'nbs'/'paper'/'tiny.ipynb').write_text(json.dumps(dict(cells=[dict(cell_type='code', id='a', execution_count=None, metadata=dict(tags=['parameters']), outputs=[], source='profile = "quick"\nruns = ""\nout = ""')],
        metadata=dict(kernelspec=dict(display_name='python3', language='python', name='python3')), nbformat=4, nbformat_minor=5)))
    monkeypatch.setenv('REMEMBER_PAST_DATA', str(tmp_path/'nothing'))
    monkeypatch.delenv('IN_TEST', raising=False)
    monkeypatch.chdir(home)
    return home


def grid(clone, *lines):
    (clone/'nbs/paper/params/quick/tiny.yml').write_text(yaml.safe_dump(dict(defaults=SMALL, cells=list(lines))))


def command(name, *args, **kw): return subprocess.Popen([sys.executable, str(Path(sys.executable).with_name(name)), *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kw)
def ended(p, code):
    out = p.communicate(timeout=240)[0]
    assert p.returncode == code, out
    assert 'Traceback' not in out
    return out


def holders(runs):
    "Processes that work on a run now"
    return {f.parent.name: int(pid) for f in Path(runs).glob('cells/*/lock') if (pid := lock_holder(f))}


def lock_holder(lock):
    import fcntl
    with open(lock) as f:
        try: fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError: return f.read().strip()


def wait_for(what, seconds=120):
    "The first true answer"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if got := what(): return got
        time.sleep(.02)
    raise AssertionError('nothing happened in time')


def test_kill_9_at_random_moments(tmp_path, undisturbed, monkeypatch):
    "Workers are killed, wherever they are; others take over; the records are those of an undisturbed run"
    kills, rng = int(os.environ.get('REMEMBER_PAST_KILLS', 5)), random.Random(0)
    monkeypatch.setattr(W, 'TRIES', 10**9)
    todo = cells(3) + [dict(settings=cell_settings(**LONG))]
    crew, killed, hand_out = W.Crew(todo, tmp_path, 2, out=open(os.devnull, 'w')), [], W.Crew.hand_out
    due = [time.monotonic() + rng.uniform(1, 3)]
    def with_an_enemy(self):
        hand_out(self)
        hands = [h for h in self.crew.values() if h.cell is not None]
        if len(killed) < kills and hands and time.monotonic() > due[0]:
            hand = rng.choice(hands)
            hand.process.send_signal(signal.SIGKILL); killed.append(hand.cell)
            due[0] = time.monotonic() + rng.uniform(.05, 3.5)
    monkeypatch.setattr(W.Crew, 'hand_out', with_an_enemy)
    crew.run()
    assert [r['state'] for r in todo] == ['made']*4 and killed
    assert numbers(find_records(tmp_path)) == numbers(find_records(undisturbed)) and memories(tmp_path) == memories(undisturbed)
    assert not list(tmp_path.rglob('*.tmp')) and not list(tmp_path.rglob('checkpoint*'))
    print(f'{len(killed)} kills, cells {killed}')


def test_given_up_after_three_deaths(tmp_path, monkeypatch):
    "A process that always dies, as where memory runs out, costs three tries and not the other cells"
    todo, give = cells(2), W.Worker.give
    def poisoned(self, i, **job):
        if i == 0: self.cell = 0; self.process.send_signal(signal.SIGKILL)
        else: give(self, i, **job)
    monkeypatch.setattr(W.Worker, 'give', poisoned)
    W.Crew(todo, tmp_path, 2, out=open(os.devnull, 'w')).run()
    assert 'SIGKILL' in todo[0]['state'] and 'enough memory' in todo[0]['state'] and todo[1]['state'] == 'made'
    assert 'SIGKILL' in W.reason(tmp_path/'cells'/Run(tmp_path, 'cells', todo[0]['settings']).hash)


def test_parent_killed(clone, undisturbed):
    "The parent is killed: its workers write checkpoints and go; the same command ends the work"
    grid(clone, dict(seed=[0, 1, 2]), LONG)
    p = command('rp_reproduce', 'tiny', '--workers', 2)
    wait_for(lambda: (clone/'runs/cells').exists() and len(holders(clone/'runs')) == 2)
    time.sleep(.5)
    p.kill(); p.communicate()
    wait_for(lambda: not holders(clone/'runs'), 30)              # nobody is left behind
    ended(command('rp_reproduce', 'tiny', '--workers', 2), 0)
    assert numbers(find_records(clone/'runs')) == numbers(find_records(undisturbed)) and memories(clone/'runs') == memories(undisturbed)


def test_interrupt_and_slices(clone, undisturbed):
    "Ctrl-C leaves no process and a checkpoint, exit 130; a slice of time ends with exit 3; the same command goes on"
    grid(clone, LONG)
    p = command('rp_reproduce', 'tiny', '--workers', 2)
    wait_for(lambda: (clone/'runs/cells').exists() and holders(clone/'runs'))
    time.sleep(.3)
    p.send_signal(signal.SIGINT)
    assert 'the same command goes on' in ended(p, 130) and not holders(clone/'runs')
    out = ended(command('rp_reproduce', 'tiny', '--max-minutes', .0001), 3)
    assert 'not finished: 1 of 1 cells' in out and not find_records(clone/'runs')
    ended(command('rp_reproduce', 'tiny'), 0)
    run = Run(undisturbed, 'cells', cell_settings(**LONG))
    assert numbers(find_records(clone/'runs'))[run.hash] == numbers(find_records(undisturbed))[run.hash]
    assert memories(clone/'runs')[run.hash] == memories(undisturbed)[run.hash]


@pytest.mark.parametrize('workers', [1, 2])
def test_slices_stop_in_the_middle(tmp_path, undisturbed, workers):
    "Slice after slice, each ending in the middle of the distillation, and nothing is lost"
    settings, slices, state, at = cell_settings(**LONG), 0, '', [0]
    while state != 'made':
        todo, slices = [dict(settings=settings)], slices + 1
        W.make_missing(todo, tmp_path, out=open(os.devnull, 'w'), workers=workers, until=time.time() + (1 if workers == 1 else 6)*(1 if slices < 3 else 100))
        state = todo[0]['state']
        assert state in ('made', 'not finished')
        if state != 'made' and (old := Run(tmp_path, 'cells', settings, create=False).load_checkpoint()): at.append(old['iteration'])
        assert at == sorted(at)
    assert slices > 1 or workers == 2
    assert memories(tmp_path) == {k: v for k, v in memories(undisturbed).items() if k == Run(tmp_path, 'cells', settings).hash}


def test_two_commands_at_once(clone):
    "Two commands on one table: each cell is computed once, both end well with the same table"
    grid(clone, dict(seed=[0, 1, 2, 3]))
    both = [command('rp_reproduce', 'tiny', '--workers', n) for n in (1, 2)]
    for p in both: ended(p, 0)
    begun = {f.parent.name: f.stat().st_mtime_ns for f in (clone/'runs/cells').glob('*/record.json')}
    assert len(begun) == 4
    for r in find_records(clone/'runs'): assert len(r['accuracy']) == 2


def test_failing_cell(clone):
    "A cell that raises: the others go on, its sentence is kept, exit 1; made whole, the same command ends with 0"
    grid(clone, dict(seed=[0, 1]), dict(method='bptt', inner_lr=1e30))
    out = ended(command('rp_reproduce', 'tiny', '--workers', 2), 1)
    assert 'failed: ' in out and 'is not finite' in out and len(find_records(clone/'runs')) == 2
    assert len(list((clone/'runs').rglob('failed.json'))) == 1


class Stop(Exception): pass


def interrupted(settings, runs, at):
    "A run that was left with two checkpoints"
    def stop(news):
        run = Run(runs, 'cells', settings)
        if news['stage'] == 'distil' and news['done'] == at: raise Stop
    with pytest.raises(Stop): run_cell(settings, runs, progress=stop)
    return Run(runs, 'cells', settings)


@pytest.mark.parametrize('damage', ['cut', 'empty', 'flip', 'sums'])
def test_damaged_checkpoint(tmp_path, undisturbed, damage):
    "A checkpoint that was cut, or has flipped bits, is noticed; the one before it, or a new start, ends in the same record"
    settings = cell_settings(**SMALL)
    for at in (4, 8): run = interrupted(settings, tmp_path, at)
    now = run.folder/'checkpoint.pt'
    data = bytearray(now.read_bytes())
    if damage == 'cut': now.write_bytes(data[:len(data)//2])
    if damage == 'empty': now.write_bytes(b'')
    if damage == 'flip':
        for i in random.Random(1).sample(range(len(data)), 3): data[i] ^= 1 << i % 8
        now.write_bytes(data)
    if damage == 'sums': (run.folder/'checkpoint.sha256').write_bytes(b'\xff\x00 not sums')
    with pytest.warns(UserWarning, match='passed over'): old = run.load_checkpoint()
    assert (old or {}).get('iteration') == (None if damage == 'sums' else 4)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        run_cell(settings, tmp_path)
    assert memories(tmp_path)[run.hash] == memories(undisturbed)[run.hash]


def test_disk_full(tmp_path, undisturbed):
    "The disk fills up while a checkpoint is written: one sentence; with room again, the same command ends in the same record"
    disk, settings = tmp_path/'disk', cell_settings(**SMALL)
    disk.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', str(disk)], capture_output=True).returncode == 0
    code = f'''
import os, resource, signal, sys, json
from remember_past import cells as C, workers as W
if not {mounted}: signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))
learn = C.learn
C.learn = lambda *a, **k: learn(*a, **k, every=0)       # a checkpoint after each iteration
print(json.dumps(W.make_cell(json.loads(sys.argv[1]), sys.argv[2])[1]))
'''
    def make(): return json.loads(subprocess.run([sys.executable, '-c', code, json.dumps(settings), str(disk)], capture_output=True, text=True, timeout=200, check=True).stdout)
    try:
        filler = disk/'filler'
        if mounted: filler.write_bytes(b'x'*44_000)
        said = make()
        assert said.startswith('failed: cannot write') and ('No space left' in said or 'too large' in said), said
        assert not find_records(disk)
        if mounted: subprocess.run(['mount', '-o', 'remount,size=16m', str(disk)], check=True)
        filler.unlink(missing_ok=True)
        assert W.make_cell(settings, disk)[1] == 'made'
        run = Run(disk, 'cells', settings)
        assert memories(disk) == {run.hash: memories(undisturbed)[run.hash]}
        assert not list(disk.rglob('*.tmp'))
    finally:
        if mounted: subprocess.run(['umount', str(disk)], check=True)


def test_ray(tmp_path, undisturbed):
    "Cells as Ray tasks; one task's process is killed, Ray tries again"
    pytest.importorskip('ray', reason="Ray is not installed: pip install 'remember_past[cluster]'")
    import threading
    todo = cells(2) + [dict(settings=cell_settings(**LONG))]
    killed, long = [], Run(tmp_path, 'cells', cell_settings(**LONG), create=False).hash
    def enemy():
        pid = wait_for(lambda: holders(tmp_path).get(long), 200)
        time.sleep(.3)
        os.kill(pid, signal.SIGKILL); killed.append(pid)
    t = threading.Thread(target=enemy); t.start()
    W.make_missing(todo, tmp_path, out=open(os.devnull, 'w'), workers=2, ray='local')
    t.join()
    assert [r['state'] for r in todo] == ['made']*3 and killed
    mine, theirs = numbers(find_records(tmp_path)), numbers(find_records(undisturbed))
    assert len(mine) == 3 and all(theirs[k] == v for k, v in mine.items())
