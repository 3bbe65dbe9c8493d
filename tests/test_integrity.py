"One flipped bit in any file that numbers come from is refused, mended or warned of; never taken in silence"
import random, warnings, zipfile
from pathlib import Path
from types import SimpleNamespace
import numpy as np, pytest, torch
from remember_past.atomic_files import read_json
from remember_past.baselines.trajectory_matching import _Experts
from remember_past.continual.recall import Recall
from remember_past.data.files import _read_npz
from remember_past.data.load import load_data, tiny
from remember_past.data.whiten import fit_whitening
from remember_past.engine.choose import steps_for
from remember_past.errors import BadInput
from remember_past.lab.episodes import _Row, _part_settings
from remember_past.lab.own_settings import read_pairs
from remember_past.lab.runs import Run
from remember_past.lab.records import find_records
from remember_past.lab.settings import complete
from remember_past.memory import Memory
from remember_past.nets import ConvNet

HERE = Path(__file__).resolve().parents[1]


def flips(path, n, seed, end=None):
    "The file with one bit flipped before byte `end`, n times; whole again afterwards"
    rng, whole = random.Random(seed), path.read_bytes()
    for _ in range(n):
        b = bytearray(whole)
        b[rng.randrange(end or len(b))] ^= 1 << rng.randrange(8)
        path.write_bytes(b)
        yield bytes(b)
    path.write_bytes(whole)


def answer(read, path):
    "What a reader makes of a file: refused, warned or silent"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        try: read(path)
        except BadInput: return 'refused'
    return 'warned' if said else 'silent'


def head_of(path): return 8 + int.from_bytes(path.read_bytes()[:8], 'little')


def test_memory_header(tmp_path):
    ds = tiny()
    m = Memory.addressed(4, 2, ds.shape, ds.classes, scale=2, whitening=fit_whitening('standardize', ds.x_train))
    m.meta = dict(accuracy=[91.5], settings=dict(lr=0.03, data='tiny'))
    path = m.save(tmp_path/'m.safetensors')
    assert answer(Memory.load, path) == 'silent'
    said = [answer(Memory.load, path) for end in (head_of(path), None) for _ in flips(path, 200, 1, end)]
    assert said.count('silent') == 0 and said.count('refused') > 380, {k: said.count(k) for k in set(said)}


def test_older_memories_open_with_a_warning():
    older = sorted((HERE/'figures'/'small'/'memories').glob('mnist-ipc1-full-*.safetensors'))
    assert older
    for path in older:
        with pytest.warns(UserWarning, match='no digest of the whole file'): assert Memory.load(path).K > 0


def test_stream_memories(tmp_path):
    new = lambda: SimpleNamespace(n=1, seeds=[0], shape=(1, 4, 4), o=dict(rows=2, support=0, lr=0.1), at_test=(), device='cpu', done=[])
    a = new(); a.done = [[torch.rand(1, 3, 16), torch.rand(1, 4, 3)] for _ in range(2)]
    path = Recall.save(a, tmp_path/'s.safetensors', 'tiny')
    def restore(path):
        b = new(); b.learned = lambda: b.o
        Recall.restore(b, path, 'tiny')
        return b
    assert all(torch.equal(p, q) for s, t in zip(a.done, restore(path).done) for p, q in zip(s, t))
    said = [answer(restore, path) for end in (head_of(path), None) for _ in flips(path, 100, 2, end)]
    assert said.count('silent') == 0


def test_experts_are_trained_again(tmp_path):
    ds = tiny(); net = ConvNet(ds.shape, 3, width=4, depth=2); steps = steps_for(net)
    new = lambda: _Experts(steps, net, ds.x_train, ds.y_train, tmp_path, trajectory=2, expert_batch=16, expert_lr=.1)
    one = new(); end = one.at(0, 2); file = one.folder/'0.safetensors'; whole = file.read_bytes()
    assert answer(lambda _: new().at(0, 2), file) == 'silent'
    for _ in flips(file, 6, 3):
        with pytest.warns(UserWarning, match='trained again|no digest'): assert torch.equal(new().at(0, 2), end)
        assert file.read_bytes() == whole
    file.write_bytes(whole[:-3])
    with pytest.warns(UserWarning, match='trained again'): assert torch.equal(new().at(0, 2), end)


def test_parts_are_made_again(tmp_path):
    o, made = complete(kind='images', data='digits', method='images'), []
    row = _Row(o, SimpleNamespace(x_train=torch.zeros(1)), None, tmp_path)
    def make(run): made.append(1); return dict(w=torch.arange(50.)), dict(mean=1.)
    for _ in range(2): assert torch.equal(row.shared('label', make)[0]['w'], torch.arange(50.))
    assert len(made) == 1
    file = Run(tmp_path/'parts', 'images', _part_settings(o, 'label')).folder/'tensors.safetensors'
    for n, _ in enumerate(flips(file, 2, 4), 2):
        with pytest.warns(UserWarning, match='made again'): assert torch.equal(row.shared('label', make)[0]['w'], torch.arange(50.))
        assert len(made) == n


def test_npz_shadow_member(tmp_path):
    x, y, path = np.zeros((6, 4, 4), np.uint8), np.arange(6) % 2, tmp_path/'a.npz'
    np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y)
    np.testing.assert_array_equal(_read_npz(path)['y_train'], y)
    np.save(tmp_path/'other.npy', x + 1)
    for name in 'x_train', 'x_train.npy':
        twin = tmp_path/f'{name}.npz'; twin.write_bytes(path.read_bytes())
        with warnings.catch_warnings(), zipfile.ZipFile(twin, 'a') as z:
            warnings.simplefilter('ignore'); z.write(tmp_path/'other.npy', name)
        with pytest.raises(BadInput, match='more than once'): _read_npz(twin)


@pytest.mark.skipif(not Path('/proc/self/mem').exists(), reason='the file that cannot be read is one of Linux')
def test_a_disk_that_fails(tmp_path):
    "A file whose first byte is an I/O error: one sentence from whatever reads it"
    run = Run(tmp_path/'runs', 'cells', complete(data='digits'))
    run.finish(dict(mean=1.)); run.save_checkpoint(dict(iteration=3))
    (tmp_path/'photos'/'dog').mkdir(parents=True); (tmp_path/'photos'/'dog'/'1.png').write_bytes(b'a second class')
    readers = {'m.safetensors': Memory.load, 'a.npz': load_data, 'x.json': read_json, 'p.yml': lambda p: read_pairs((), str(p)),
               't.csv': lambda p: load_data(p, size=8), 'photos/cat/1.png': lambda p: load_data(p.parents[1], size=8),
               **{str((run.folder/name).relative_to(tmp_path)): read for name, read in {
                   'record.json': lambda p: find_records(tmp_path/'runs'), 'settings.json': lambda p: Run(tmp_path/'runs', 'cells', complete(data='digits')),
                   'checkpoint.pt': lambda p: run.load_checkpoint(), 'checkpoint.sha256': lambda p: run.load_checkpoint()}.items()}}
    for name, read in readers.items():
        path = tmp_path/name; path.parent.mkdir(parents=True, exist_ok=True)
        old = path.read_bytes() if path.exists() else b''
        path.unlink(missing_ok=True); path.symlink_to('/proc/self/mem')
        with pytest.raises(BadInput, match='cannot (be )?read') as e: read(path)
        assert '\n' not in str(e.value)
        path.unlink(); path.write_bytes(old)
