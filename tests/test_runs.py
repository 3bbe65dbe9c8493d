"What a notebook cannot show about runs: killed processes, two processes at once, folders that cannot be written"
import os, signal, subprocess, sys, threading, warnings
import pytest
from remember_past.errors import BadInput
from remember_past.lab.runs import Run
from remember_past.lab.records import find_records, read_record
from remember_past.atomic_files import write_bytes, write_json
from remember_past.hashes import settings_hash

WRITER = '''
import sys, torch
from remember_past.lab.runs import Run
run = Run(sys.argv[1], 'kill', dict(a=1))
i = 0
while True:
    run.save_checkpoint(dict(i=i, w=torch.full((300_000,), float(i))))
    print(i, flush=True)
    i += 1
'''
HOLDER = '''
import sys
from remember_past.lab.runs import Run
with Run(sys.argv[1], 'lock', dict(a=1)).locked():
    print('held', flush=True)
    sys.stdin.read()
'''


def child(code, root):
    return subprocess.Popen([sys.executable, '-c', code, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | dict(OMP_NUM_THREADS='1'))


def test_kill_while_writing(tmp_path):
    "kill -9 at five moments of the writing, each after another file has changed: what is read back is whole, and at most one step old"
    folder, names = Run(tmp_path, 'kill', dict(a=1)).folder, ('nothing', 'checkpoint.new.pt', 'checkpoint.sha256', 'checkpoint.prev.pt', 'checkpoint.pt')
    for name in names:
        p, told = child(WRITER, tmp_path), -1
        def stamp():
            try: return (folder/name).stat().st_mtime_ns
            except FileNotFoundError: return None   # it is being replaced at this very moment
        try:
            while told < 3: told = int(p.stdout.readline())
            before = stamp()
            while name != 'nothing' and stamp() == before: assert p.poll() is None
        finally: p.send_signal(signal.SIGKILL); rest = p.communicate()[0]
        told = max([told, *map(int, rest.split())])
        with warnings.catch_warnings():
            warnings.simplefilter('error')   # a kill never damages a file, so nothing is passed over
            state = Run(tmp_path, 'kill', dict(a=1)).load_checkpoint()
        assert state['i'] in (told, told + 1) and (state['w'] == state['i']).all()


@pytest.mark.parametrize('at', ['checkpoint.new.pt', 'checkpoint.sha256', 'checkpoint.prev.pt', 'checkpoint.pt'])
def test_every_moment_of_the_swap(tmp_path, monkeypatch, at):
    "Stop in front of each rename in turn: a valid state is always found"
    run, replace = Run(tmp_path, 'swap', dict(a=1)), os.replace
    for i in (0, 1): run.save_checkpoint(dict(i=i))
    def stopping(a, b):
        if os.path.basename(b) == at: raise KeyboardInterrupt
        replace(a, b)
    monkeypatch.setattr(os, 'replace', stopping)
    with pytest.raises(KeyboardInterrupt): run.save_checkpoint(dict(i=2))
    monkeypatch.undo()
    assert run.load_checkpoint()['i'] == 1


def test_kills_in_a_row(tmp_path, monkeypatch):
    "Stop between the sums and the renames again and again: the state of before is still found, and a damaged one never takes the place of a whole one"
    run, replace = Run(tmp_path, 'row', dict(a=1)), os.replace
    for i in (0, 1): run.save_checkpoint(dict(i=i))
    def stopping(a, b):
        if os.path.basename(b) in ('checkpoint.prev.pt', 'checkpoint.pt'): raise KeyboardInterrupt
        replace(a, b)
    for at in range(4):
        monkeypatch.setattr(os, 'replace', stopping)
        with pytest.raises(KeyboardInterrupt): run.save_checkpoint(dict(i=2 + at))
        monkeypatch.undo()
        assert run.load_checkpoint()['i'] == 1
    (run.folder/'checkpoint.pt').write_bytes(b'damaged')
    monkeypatch.setattr(os, 'replace', stopping)
    with pytest.raises(KeyboardInterrupt): run.save_checkpoint(dict(i=7))
    monkeypatch.undo()
    with pytest.warns(UserWarning, match='passed over'): assert run.load_checkpoint()['i'] == 0


def test_truncated_checkpoint_falls_back(tmp_path):
    run = Run(tmp_path, 'cut', dict(a=1))
    for i in (0, 1): run.save_checkpoint(dict(i=i))
    cut = run.folder/'checkpoint.pt'
    cut.write_bytes(cut.read_bytes()[:-1])
    with pytest.warns(UserWarning, match='passed over'): assert run.load_checkpoint()['i'] == 0


def test_checkpoint_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self): return os.mkdir, (str(tmp_path/'made_by_code'),)
    run = Run(tmp_path, 'evil', dict(a=1))
    run.save_checkpoint(dict(x=Evil()))
    with pytest.raises(Exception): run.load_checkpoint()
    assert not (tmp_path/'made_by_code').exists()


def test_one_process_for_one_run(tmp_path):
    p = child(HOLDER, tmp_path)
    try:
        assert p.stdout.readline().strip() == 'held'
        run = Run(tmp_path, 'lock', dict(a=1))
        with pytest.raises(BadInput, match=str(p.pid)):
            with run.locked(): pass
    finally: p.kill(); p.communicate()
    with run.locked(): pass          # the lock died with its holder


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path/'file').write_text('')
    with pytest.raises(BadInput, match='cannot write'): Run(tmp_path/'file', 'x', dict(a=1))
    if os.geteuid() == 0: return     # for root, every folder can be written
    (tmp_path/'locked').mkdir(mode=0o500)
    with pytest.raises(BadInput, match='cannot write'): Run(tmp_path/'locked', 'x', dict(a=1))


@pytest.mark.parametrize('name', ['..', '../x', 'a/b', '', 'a b', '.hidden'])
def test_names_stay_in_the_root(tmp_path, name):
    with pytest.raises(BadInput, match='letters'): Run(tmp_path/'in', name, dict(a=1))
    assert list(tmp_path.iterdir()) == []


def test_edited_settings_and_records_are_refused(tmp_path):
    run = Run(tmp_path, 'x', dict(a=1))
    run.finish(dict(mean=50.5))
    record = run.folder/'record.json'
    write_bytes(record, record.read_bytes().replace(b'50.5', b'99.5'))
    with pytest.raises(BadInput, match='checksum'): find_records(tmp_path)
    record.write_text('{"half')
    with pytest.raises(BadInput, match='damaged'): read_record(record)
    write_json(run.folder/'settings.json', dict(a=2))
    with pytest.raises(BadInput, match='edited'): Run(tmp_path, 'x', dict(a=1))


def test_hash_is_stable():
    "A hash that changes orphans every committed record"
    assert settings_hash(dict(data='digits', ipc=1, inner_lr=.03)) == settings_hash(dict(ipc=1.0, inner_lr=0.03, data='digits')) == 'a4ad8247511f'


def test_record_keeps_nothing_half_written(tmp_path, monkeypatch):
    run = Run(tmp_path, 'x', dict(a=1))
    run.save_checkpoint(dict(i=1))
    monkeypatch.setattr(os, 'fsync', lambda fd: (_ for _ in ()).throw(OSError(28, 'No space left on device')))
    with pytest.raises(BadInput, match='No space left'): run.finish(dict(mean=1))
    monkeypatch.undo()
    assert not run.done and run.load_checkpoint()['i'] == 1
    assert not list(run.folder.glob('.*'))


def test_interrupt_while_the_first_checkpoint_is_written(tmp_path, monkeypatch):
    "Ctrl-C in front of each rename in turn: it comes through, but only when the checkpoint is there"
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore Ctrl-C
    replace = os.replace
    for at in ('checkpoint.new.pt', 'checkpoint.sha256', 'checkpoint.pt'):
        run, pressed = Run(tmp_path, 'first', dict(at=at)), []
        def pressing(a, b):
            if os.path.basename(b) == at: pressed.append(at); os.kill(os.getpid(), signal.SIGINT)
            replace(a, b)
        monkeypatch.setattr(os, 'replace', pressing)
        with pytest.raises(KeyboardInterrupt): run.save_checkpoint(dict(i=0))
        monkeypatch.undo()
        assert pressed == [at] and run.load_checkpoint()['i'] == 0


def test_other_threads_save_too(tmp_path):
    "Signals are the main thread's affair; a run in another thread writes its checkpoints as before"
    run = Run(tmp_path, 'thread', dict(a=1))
    t = threading.Thread(target=run.save_checkpoint, args=(dict(i=5),)); t.start(); t.join()
    assert run.load_checkpoint()['i'] == 5
