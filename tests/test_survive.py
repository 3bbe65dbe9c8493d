"""Faults, each followed by the same command again: what remains equals an undisturbed run.

REMEMBER_PAST_KILLS sets how often workers are killed at random moments: 20, which is what the project promises, unless set.
"""
import json, multiprocessing, os, random, shutil, signal, subprocess, sys, threading, time, types, warnings
from collections import Counter
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
import pytest, torch, yaml
from remember_past.lab import distillation as C
from remember_past.lab import commands as R
from remember_past.lab import workers as W
from remember_past.lab.settings import complete
from remember_past.lab.distillation import run_distillation
from remember_past.checkpoints import Resumable
from remember_past.errors import BadInput
from remember_past.lab.runs import Run
from remember_past.lab.records import failure, find_records

HERE = Path(__file__).resolve().parents[1]
SMALL = dict(data='digits', whiten='standardize', scale=1, bases=6, width=4, depth=2, inner_steps=4, inner_lr=.1, per_class=4, outer='adam', outer_lr=.02,
             real_per_class=8, iterations=12, eval_nets=2, eval_epochs=3, eval_lr=.1)
KILLS = int(os.environ.get('REMEMBER_PAST_KILLS', 20))
LONG = SMALL | dict(iterations=max(400, 8*KILLS), inner_steps=8)


def cells(n, **changes): return [dict(settings=complete(**SMALL | changes, seed=s)) for s in range(n)]
def numbers(records): return {r['run']: (r['accuracy'], r['floats'], r['history'][-1]['loss'] if r['history'] else None) for r in records}
def memories(runs): return {p.parent.name: p.read_bytes() for p in Path(runs).glob('cells/*/memory.safetensors')}


@contextmanager
def on_one_thread():
    "Records are compared to the last bit, so every process has the same number of threads"
    before = torch.get_num_threads(); torch.set_num_threads(1)
    try: yield
    finally: torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    with on_one_thread(): yield


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
    "The same cells, made by nobody's interference in this process"
    runs = tmp_path_factory.mktemp('undisturbed')
    todo = cells(3) + [dict(settings=complete(**LONG))]
    with on_one_thread(): W.make_in_turn(todo, runs, out=open(os.devnull, 'w'))  # made before `one_thread` begins
    assert [r['state'] for r in todo] == ['made']*4
    return runs


@pytest.fixture
def clone(tmp_path, monkeypatch):
    "What the command needs of a repository"
    home = tmp_path/'clone'
    (home/'nbs'/'paper'/'params').mkdir(parents=True)
    for name in ('published.yml',): shutil.copy(HERE/'nbs'/'paper'/'params'/name, home/'nbs'/'paper'/'params')
    shutil.copy(HERE/'settings.ini', home)
    (home/'nbs'/'paper'/'tiny.ipynb').write_text(json.dumps(dict(cells=[dict(cell_type='code', id='a', execution_count=None, metadata=dict(tags=['parameters']), outputs=[], source='profile = "quick"\nruns = ""\nout = ""')],
        metadata=dict(kernelspec=dict(display_name='python3', language='python', name='python3')), nbformat=4, nbformat_minor=5)))
    monkeypatch.setenv('REMEMBER_PAST_DATA', str(tmp_path/'nothing'))
    monkeypatch.delenv('IN_TEST', raising=False)
    monkeypatch.chdir(home)
    return home


def grid(clone, *lines):
    (clone/'nbs/paper/params/tiny.yml').write_text(yaml.safe_dump(dict(quick=dict(defaults=SMALL, experiments=list(lines)))))


def heed(): signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore Ctrl-C, and so would their children
def command(name, *args, **kw): return subprocess.Popen([sys.executable, '-c', f'from remember_past.lab.commands import {name}; import sys; sys.argv[0] = {name!r}; {name}()', *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=heed, **kw)
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


FORK = multiprocessing.get_context('forkserver')                       # a process that has imported everything, and forks on demand
FORK.set_forkserver_preload(['test_survive', 'torch._dynamo'])


def forked(stdin, stdout, stderr, env):
    "The worker's own loop, in a fork; a checkpoint every 20 ms, so that many a kill meets one"
    os.setsid(); os.environ.update(env); torch.set_num_threads(1)
    for fd, pipe in enumerate((stdin, stdout, stderr)): os.dup2(pipe.fileno(), fd); pipe.close()
    sys.stdin, learn = open(0), C.Distillation.learn
    C.Distillation.learn = lambda *a, **k: learn(*a, **k, every=.02)
    W.serve()


class Forked:
    "To a worker what `subprocess.Popen` is, without the seconds that Python and torch need to start"
    def __init__(self, words, stdin, stdout, stderr, text, env, start_new_session):
        (a, b), (c, d) = os.pipe(), os.pipe()
        theirs = Connection(a, writable=False), Connection(d, readable=False), Connection(os.dup(stderr.fileno()), readable=False)
        self.process = FORK.Process(target=forked, args=(*theirs, env)); self.process.start()
        for pipe in theirs: pipe.close()
        self.stdin, self.stdout = open(b, 'w'), open(c)

    @property
    def returncode(self): return self.process.exitcode
    def poll(self): return self.process.exitcode
    def send_signal(self, s): os.kill(self.process.pid, s) if self.poll() is None else None
    def kill(self): self.send_signal(signal.SIGKILL)
    def wait(self, timeout=None):
        self.process.join(timeout)
        if self.poll() is None: raise subprocess.TimeoutExpired('worker', timeout)


def test_kill_9_at_random_moments(tmp_path, undisturbed, monkeypatch):
    "Workers are killed, starting, loading, distilling or writing; others take over; the records are those of an undisturbed run"
    rng, killed, due, hand_out, hear = random.Random(0), [], [], W.Crew.hand_out, W.Crew.hear
    todo = [dict(settings=complete(**LONG)), *cells(3)]
    def kill_when_due(self):
        hand_out(self)
        hands = [h for h in self.crew.values() if h.job is not None]
        if len(killed) == KILLS or not hands or not due or time.monotonic() < due[0]: return
        hand = rng.choice(hands)
        hand.process.send_signal(signal.SIGKILL); killed.append((hand.job, self.furthest.get(hand.job)))
        due[:] = [time.monotonic() + rng.uniform(0, .3)] if rng.random() < .3 else []   # some meet a worker that has just begun
    def take_aim(self, hand, news):
        hear(self, hand, news)
        if not due and news and 'stage' in news: due.append(time.monotonic() + rng.uniform(0, .1))
    monkeypatch.setattr(W.Crew, 'hand_out', kill_when_due)
    monkeypatch.setattr(W.Crew, 'hear', take_aim)
    monkeypatch.setattr(W, 'TRIES', 10**9)
    monkeypatch.setattr(W, 'subprocess', types.SimpleNamespace(Popen=Forked, PIPE=subprocess.PIPE, TimeoutExpired=subprocess.TimeoutExpired))
    W.Crew(todo, tmp_path, 2, out=open(os.devnull, 'w')).run()
    print(f'{len(killed)} kills; cell and last news: {killed}')
    assert [r['state'] for r in todo] == ['made']*4 and len(killed) == KILLS
    assert numbers(find_records(tmp_path)) == numbers(find_records(undisturbed)) and memories(tmp_path) == memories(undisturbed)
    assert not list(tmp_path.rglob('*.tmp')) and not list(tmp_path.rglob('checkpoint*'))


def test_two_workers_are_kept_busy(tmp_path, monkeypatch):
    """12 cells, two workers: as long as cells wait nobody is idle, both make their share, and cells of the two are under way at the same time.

    That is what a crew can promise on every machine. How much sooner two end than one is the machine's own affair: nothing here reads a clock."""
    hand_out, hear, close = W.Crew.hand_out, W.Crew.hear, W.Crew.close
    idle, pairs, heard, made = [], set(), set(), Counter()
    def watch_hands(self):
        hand_out(self)
        if self.waiting: idle.append(2 - sum(h.job is not None for h in self.crew.values()))
    def watch_news(self, hand, news):
        if news and 'stage' in news and hand.job is not None:
            heard.add(hand.job)
            pairs.update((min(hand.job, i), max(hand.job, i)) for i in heard if i != hand.job)
        hear(self, hand, news)
    def watch_end(self, hand, state):
        heard.discard(hand.job); made[hand.number] += 1
        close(self, hand, state)
    for name, f in dict(hand_out=watch_hands, hear=watch_news, close=watch_end).items(): monkeypatch.setattr(W.Crew, name, f)
    monkeypatch.setattr(W, 'subprocess', types.SimpleNamespace(Popen=Forked, PIPE=subprocess.PIPE, TimeoutExpired=subprocess.TimeoutExpired))
    todo = [dict(settings=complete(**SMALL | dict(iterations=150, inner_steps=8), seed=s)) for s in range(12)]
    W.Crew(todo, tmp_path, 2, out=open(os.devnull, 'w')).run()
    print(f'made by each: {dict(made)}; pairs under way together: {sorted(pairs)}')
    assert [r['state'] for r in todo] == ['made']*12
    assert idle and not any(idle) and sum(made.values()) == 12 and min(made[0], made[1]) >= 1 and pairs


def test_fresh_goes_on(tmp_path, undisturbed, monkeypatch):
    "A worker of `--fresh` is killed: the next one goes on from its checkpoint, and the old record stays away"
    todo, said, hear = [dict(settings=complete(**LONG))], [], W.Crew.hear
    run = Run(tmp_path, 'cells', todo[0]['settings']); run.finish(dict(mean=0.))
    def watch(self, hand, news):
        hear(self, hand, news)
        if news and news.get('stage') == 'distil':
            said.append(news['done'])
            if len(said) == 200: hand.process.send_signal(signal.SIGKILL)
    monkeypatch.setattr(W.Crew, 'hear', watch)
    monkeypatch.setattr(W, 'subprocess', types.SimpleNamespace(Popen=Forked, PIPE=subprocess.PIPE, TimeoutExpired=subprocess.TimeoutExpired))
    W.Crew(todo, tmp_path, 1, fresh=True, out=open(os.devnull, 'w')).run()
    assert todo[0]['state'] == 'made' and said.count(1) == 1 and said[:200] == [*range(1, 201)], said
    assert memories(tmp_path)[run.hash] == memories(undisturbed)[run.hash] and run.record['mean'] > 0
    assert sorted(p.name for p in run.folder.iterdir()) == ['fresh', 'lock', 'memory.safetensors', 'record.json', 'settings.json']


def test_background_job(clone):
    "Where a script has its jobs ignore Ctrl-C: SIGTERM ends all of them soon, and so does the death of the parent; no experiment has failed by that"
    grid(clone, LONG | dict(iterations=10**5), LONG | dict(iterations=10**5, seed=1))
    def start():
        p = subprocess.Popen([sys.executable, '-c', 'from remember_past.lab.commands import rp_reproduce; import sys; sys.argv[0] = "rp_reproduce"; rp_reproduce()',
            'tiny', '--workers', '2'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
        wait_for(lambda: (clone/'runs/cells').exists() and len(holders(clone/'runs')) == 2)
        return p
    for end, code in ((signal.SIGTERM, 130), (signal.SIGKILL, -9)):
        p, reached = start(), None
        time.sleep(2); p.send_signal(end); began = time.monotonic()
        said = p.communicate(timeout=60)[0]
        wait_for(lambda: not holders(clone/'runs'), 30)
        print(f'{end.name}: all gone after {time.monotonic() - began:.1f} s')
        assert p.returncode == code and 'Traceback' not in said and not list(clone.rglob('failed.json'))


def test_given_up_after_some_deaths(tmp_path, monkeypatch):
    "A process that always dies, as where memory runs out, is given up after three tries"
    todo = cells(1)
    def poisoned(self, i, **job): self.job = i; self.process.send_signal(signal.SIGKILL)
    monkeypatch.setattr(W.Worker, 'give', poisoned)
    W.Crew(todo, tmp_path, 1, out=open(os.devnull, 'w')).run()
    assert 'SIGKILL, 3 times' in todo[0]['state'] and 'enough memory' in todo[0]['state']
    assert 'SIGKILL' in failure(tmp_path/'cells'/Run(tmp_path, 'cells', todo[0]['settings']).hash)


def test_command_killed_interrupted_sliced_and_doubled(clone, undisturbed):
    "One grid, one of its experiments raises: the parent is killed, interrupted, out of time, and at last there are two of it at once"
    grid(clone, dict(seed=[0, 1, 2]), LONG, dict(method='bptt', inner_lr=1e30))
    working = lambda: (clone/'runs/cells').exists() and holders(clone/'runs')
    p = command('rp_reproduce', 'tiny', '--workers', 2)
    wait_for(lambda: working() and len(working()) == 2)
    p.kill(); p.communicate()
    wait_for(lambda: not working(), 30)                          # nobody is left behind
    p = command('rp_reproduce', 'tiny', '--workers', 2)
    wait_for(working)
    p.send_signal(signal.SIGINT)
    assert 'the same command goes on' in ended(p, 130) and not working()
    with pytest.raises(SystemExit) as e: R.rp_reproduce(['tiny'], max_minutes=1e-6)
    assert e.value.code == 3
    both = [command('rp_reproduce', 'tiny') for _ in range(2)]
    said = ''.join(ended(p, 1) for p in both)                    # 1: the cell that raises; the others went on
    assert 'is not finite' in said and len(list(clone.rglob('failed.json'))) == 1
    assert numbers(find_records(clone/'runs')) == numbers(find_records(undisturbed)) and memories(clone/'runs') == memories(undisturbed)


def test_slices_stop_in_the_middle(tmp_path, undisturbed):
    "Slice after slice, each ending in the middle of the distillation, and nothing is lost"
    settings, state, at = complete(**LONG), '', [0]
    while state != 'made':
        todo = [dict(settings=settings)]
        W.make_in_turn(todo, tmp_path, out=open(os.devnull, 'w'), until=time.monotonic() + (.3 if len(at) < 4 else 100))
        state = todo[0]['state']
        assert state in ('made', 'not finished')
        if state != 'made': at.append(Run(tmp_path, 'cells', settings, create=False).load_checkpoint()['iteration'])
    assert len(at) > 1 and at == sorted(at)
    assert memories(tmp_path) == {k: v for k, v in memories(undisturbed).items() if k == Run(tmp_path, 'cells', settings).hash}


def test_each_cell_once(tmp_path, monkeypatch):
    "Two on one list, each with its own locks: what one works on, the other leaves for later, and reads when it is there"
    lists, made, learn = [cells(4), cells(4)], [], C.Distillation.learn
    def counted(self, *a, **k): made.append(self.o['seed']); return learn(self, *a, **k)
    monkeypatch.setattr(C.Distillation, 'learn', counted)
    both = [threading.Thread(target=W.make_in_turn, args=(todo, tmp_path), kwargs=dict(out=open(os.devnull, 'w'))) for todo in lists]
    for t in both: t.start()
    for t in both: t.join()
    assert sorted(made) == [0, 1, 2, 3] and all(r['state'] == 'made' for todo in lists for r in todo)


class Stop(Exception): pass


def interrupted(settings, runs, at):
    "A run that was left with two checkpoints"
    def stop(news):
        run = Run(runs, 'cells', settings)
        if news['stage'] == 'distil' and news['done'] == at: raise Stop
    with pytest.raises(Stop): run_distillation(settings, runs, progress=stop)
    return Run(runs, 'cells', settings)


@pytest.mark.parametrize('damage', ['cut', 'empty', 'flip', 'sums'])
def test_damaged_checkpoint(tmp_path, undisturbed, damage):
    "A checkpoint that was cut, or has flipped bits, is noticed; the one before it, or a new start, ends in the same record"
    settings = complete(**SMALL)
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
        run_distillation(settings, tmp_path)
    assert memories(tmp_path)[run.hash] == memories(undisturbed)[run.hash]


def test_disk_full(tmp_path, undisturbed):
    "The disk fills up while a checkpoint is written: one sentence; with room again, the same command ends in the same record"
    disk, settings = tmp_path/'disk', complete(**SMALL)
    disk.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', str(disk)], capture_output=True).returncode == 0
    code = f'''
import os, resource, signal, sys, json
from remember_past.lab import distillation as C
from remember_past.lab import workers as W
if not {mounted}: signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))
learn = C.Distillation.learn
C.Distillation.learn = lambda *a, **k: learn(*a, **k, every=0)       # a checkpoint after each iteration
print(json.dumps(W.make_experiment(json.loads(sys.argv[1]), sys.argv[2])[1]))
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
        assert W.make_experiment(settings, disk)[1] == 'made'
        run = Run(disk, 'cells', settings)
        assert memories(disk) == {run.hash: memories(undisturbed)[run.hash]}
        assert not list(disk.rglob('*.tmp'))
    finally:
        if mounted: subprocess.run(['umount', str(disk)], check=True)


def test_interrupt_in_the_middle_of_a_step(tmp_path, undisturbed, monkeypatch):
    "Ctrl-C while the optimiser has moved the tables and the counter has not: it waits, a checkpoint is left, and the run goes on from there"
    settings, step, pressed = complete(**SMALL), torch.optim.Adam.step, []
    heed()
    def press(self, *a, **k):
        out = step(self, *a, **k)
        if not pressed: pressed.append(1); os.kill(os.getpid(), signal.SIGINT)
        return out
    monkeypatch.setattr(torch.optim.Adam, 'step', press)
    with pytest.raises(KeyboardInterrupt): run_distillation(settings, tmp_path)
    monkeypatch.undo()
    run = Run(tmp_path, 'cells', settings)
    assert pressed and run.load_checkpoint()['iteration'] == 1
    torch.set_num_threads(1)
    run_distillation(settings, tmp_path)
    assert memories(tmp_path) == {run.hash: memories(undisturbed)[run.hash]}


def test_a_second_interrupt_waits_for_the_checkpoint(tmp_path, monkeypatch):
    "Ctrl-C once, and again (or a batch system's SIGTERM) while the last checkpoint is on its way: it is written all the same"
    settings, step, state, pressed = complete(**SMALL), torch.optim.Adam.step, Resumable.state, []
    heed()
    def press():
        pressed.append(1); os.kill(os.getpid(), signal.SIGINT)
    def first(self, *a, **k):
        out = step(self, *a, **k)
        if not pressed: press()
        return out
    def second(self):
        if len(pressed) == 1: press()
        return state(self)
    monkeypatch.setattr(torch.optim.Adam, 'step', first); monkeypatch.setattr(Resumable, 'state', second)
    with pytest.raises(KeyboardInterrupt): run_distillation(settings, tmp_path)
    assert len(pressed) == 2 and Run(tmp_path, 'cells', settings).load_checkpoint()['iteration'] == 1
