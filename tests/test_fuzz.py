"500 damaged or hostile files: each is read as it is or refused in one sentence; no traceback, no hang, no gigabytes"
import bz2, json, random, resource, signal, struct, warnings, zipfile
from pathlib import Path
import numpy as np, pytest, torch, yaml
from remember_past.lab.params import experiments_of
from remember_past.data.load import load_data
from remember_past.errors import BadInput
from remember_past.memory import Memory
from remember_past.data.whiten import fit_whitening, whitening_from

HERE, SECONDS, GIB = Path(__file__).resolve().parents[1], 5, 2
CLOCKS = signal.SIGPROF, signal.SIGALRM


def damaged(data, rng):
    "One random damage of the kinds that disks, downloads and editors make"
    b, n = bytearray(data), len(data)
    at, size = rng.randrange(n), rng.randrange(1, 64)
    kind = rng.randrange(7)
    if kind == 0:
        for _ in range(rng.randrange(1, 9)): b[rng.randrange(n)] ^= 1 << rng.randrange(8)
    elif kind == 1: del b[at:]
    elif kind == 2: del b[at:at+size]
    elif kind == 3: b[at:at] = rng.randbytes(size)
    elif kind == 4: b[at:at+size] = bytes(min(size, n-at))
    elif kind == 5: b[at:at] = b[at:at+size]
    else: b[at:at+1] = rng.choice([b'\xff', b'\x00', b'9', b'-', b'[', b'{', b'"', b':', b'\n', b'\t', b'&', b'*', b'!'])*rng.randrange(1, 4)
    return bytes(b)


class Hang(BaseException): "Passes every `except Exception`, which could take it for a fault of the file"


def survives(read, path):
    "Read a file under a watch; True when it was refused"
    def ring(*_): raise Hang(f'{path} is read for more than {SECONDS} s')
    before, old = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, [signal.signal(s, ring) for s in CLOCKS]
    signal.setitimer(signal.ITIMER_PROF, SECONDS); signal.alarm(12*SECONDS)   # of processor time, for the machine may be busy; and of waiting without any
    try: read(path); refused = False
    except BadInput as e:
        refused, said = True, str(e)
        assert 10 < len(said) < 1500 and 'Traceback' not in said, said
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0); signal.alarm(0)
        for clock, handler in zip(CLOCKS, old): signal.signal(clock, handler)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GIB*2**20, 'too much memory'
    return refused


def fuzz(seed_file, read, n, seed, tmp_path):
    rng, data, refused = random.Random(seed), seed_file.read_bytes(), 0
    assert not survives(read, seed_file)                # whole, it is read
    path = tmp_path/f'damaged{seed_file.suffix}'
    for i in range(n):
        path.write_bytes(damaged(data, rng))
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            try: refused += survives(read, path)
            except Exception as e: raise AssertionError(f'number {i}: {type(e).__name__}: {e}') from e
    return refused


def test_npz(tmp_path):
    rng, path = np.random.default_rng(0), tmp_path/'own.npz'
    x, y = rng.integers(0, 256, (30, 8, 8), np.uint8), np.arange(30) % 3
    np.savez_compressed(path, x_train=x, y_train=y, x_test=x, y_test=y, classes=np.array(['a', 'b', 'c']))
    assert fuzz(path, load_data, 170, 0, tmp_path) > 85


def hostile_npz(tmp_path):
    "Whole archives whose arrays lie about themselves"
    x, y = np.zeros((6, 8, 8), np.uint8), np.arange(6) % 2
    def archive(name, header=None, body=b'', **arrays):
        path = tmp_path/f'{name}.npz'
        with zipfile.ZipFile(path, 'w') as z:
            for k, v in (dict(x_train=x, y_train=y, x_test=x, y_test=y) | arrays).items():
                with z.open(f'{k}.npy', 'w') as f:
                    if k == 'x_train' and header: f.write(b'\x93NUMPY\x01\x00' + struct.pack('<H', len(header)) + header + body)
                    else: np.lib.format.write_array(f, np.asanyarray(v))
        return path
    yield archive('huge', b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000, 1000, 1000), }\n")
    yield archive('negative', b"{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 8, 8), }\n")
    yield archive('pickled', b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n", b'cos\nsystem\n(S"true"\ntR.')
    yield archive('code', b"{'descr': __import__('os').abort(), 'shape': ()}\n")
    yield archive('deep', b'('*4000 + b'\n')
    yield archive('nan', x_train=np.full((6, 8, 8), np.nan, np.float32))
    yield archive('labels', y_train=np.array([0, 1, 2**62, 0, 1, 0]))
    yield archive('short', y_train=y[:3])
    yield archive('empty', x_train=x[:0], y_train=y[:0])


def test_hostile_npz(tmp_path):
    for path in hostile_npz(tmp_path): assert survives(load_data, path), path.name


@pytest.fixture
def memory_file(tmp_path):
    x = torch.rand(40, 1, 8, 8)
    m = Memory.addressed(4, 2, (1, 8, 8), [str(i) for i in range(3)], scale=2, whitening=fit_whitening('standardize', x))
    m.meta = dict(settings=dict(data='digits'), accuracy=[50.])
    return m.save(tmp_path/'memory.safetensors')


def recalled(path): Memory.load(path).recall()


def test_safetensors(tmp_path, memory_file): assert fuzz(memory_file, recalled, 170, 1, tmp_path) > 85


def test_hostile_safetensors(tmp_path, memory_file):
    "Headers that are whole JSON of a right length, and say what cannot be"
    data = memory_file.read_bytes()
    n = struct.unpack('<Q', data[:8])[0]
    head = json.loads(data[8:8+n])
    mine = json.loads(head['__metadata__']['remember_past'])
    def file(name, h, m=None, length=None):
        h = h if m is None else h | dict(__metadata__=dict(remember_past=json.dumps(m)))
        text = h if isinstance(h, bytes) else json.dumps(h).encode()
        path = tmp_path/f'{name}.safetensors'
        path.write_bytes(struct.pack('<Q', len(text) if length is None else length) + text + data[8+n:])
        return path
    cases = [file('long', head, length=2**62), file('deep', b'['*5000), file('none', {}), file('number', b'1'),
             file('bomb', head, mine | dict(scale=10**6)), file('negative', head, mine | dict(scale=-2)), file('half', head, mine | dict(scale=.5)),
             file('text', head, mine | dict(scale='2')), file('classes', head, mine | dict(classes=7)), file('few', head, mine | dict(classes=['a'])),
             file('white', head, mine | dict(whitening=dict(kind='zca'))), file('white2', head, mine | dict(whitening=[1])), file('meta', head, mine | dict(meta=5)),
             file('list', head, [1]), file('deep2', dict(head, __metadata__=dict(remember_past='['*100_000)))]
    cases += [file(f'without_{k}', head, {a: b for a, b in mine.items() if a != k}) for k in mine if k != 'sha256']  # without it: an older file
    for path in cases: assert survives(recalled, path), path.name


@pytest.mark.parametrize('codes', [b'', b'no codes', bz2.compress(bytes(1000)), bz2.compress(bytes(2**20))[:-4]])
def test_hostile_zca(codes):
    "A whitening of 128 x 128 images in a few bytes is refused when it is read, not hours later when it is needed"
    D = 128*128
    tensors = dict(colour=torch.eye(1), energy=torch.ones(D), diagonal=torch.ones(D), codes=torch.tensor([*codes], dtype=torch.uint8))
    assert survives(lambda _: whitening_from(dict(kind='zca', shape=[1, 128, 128], reg=.1, mean=0., norm=1., c=.1, error=.01), tensors), 'a whitening')


@pytest.fixture
def clone(tmp_path):
    (tmp_path/'nbs/paper/params').mkdir(parents=True)
    return tmp_path


def read_experiments(path): return [experiments_of(path.parents[3], 'quick', path.stem)]


def test_yaml(clone):
    whole = clone/'nbs/paper/params/table1.yml'
    whole.write_bytes((HERE/'nbs/paper/params/table1.yml').read_bytes())
    rng, refused, text = random.Random(2), 0, whole.read_bytes()
    assert not survives(read_experiments, whole)
    for i in range(170):
        whole.write_bytes(damaged(text, rng))
        try: refused += survives(read_experiments, whole)
        except Exception as e: raise AssertionError(f'number {i}: {type(e).__name__}: {e}') from e
    assert refused > 40                                  # many changes leave a file that says something else


def quick(text): return 'quick:\n' + ''.join(f'  {l}\n' for l in text.split('\n'))


BOMB = 'a0: &a0 [1, 1]\n' + ''.join(f'a{i}: &a{i} [{", ".join([f"*a{i-1}"]*9)}]\n' for i in range(1, 12)) + 'experiments: [{ipc: *a11}]\n'
MANY = ', '.join(f'{k}: {list(range(10, 40))}' for k in ('ipc', 'bases', 'width', 'per_class', 'inner_steps', 'iterations'))
HOSTILE = ['['*20_000, '{'*20_000, '- '*20_000, '\x00', '\ufeff- 1', '%YAML 9.9\n--- 1', 'quick: 5', 'quick:', 'quick: [1]', 'paper: 3\nquick: {}', BOMB,
           'kind: [1]\nquick: {}', 'kind: os.system\nquick: {}', 'include: ../../../../../../etc/passwd\nquick: {}', 'include: [1]\nquick: {}',
           *map(quick, [f'experiments: [{"1, "*10**6}]', BOMB, 'defaults: &d {a: *d}', 'experiments: [{ipc: 2001-99-99}]',
           'experiments: !!python/object/apply:os.system ["true"]', 'experiments: [{ipc: !!int "x"}]', 'experiments: [{? [1, 2] : 3}]', f'experiments: [{{{MANY}}}]',
           'experiments: 5', 'experiments: {ipc: 1}', 'where: 3', 'notebook: [1]', 'defaults: {ipc: .nan}\nexperiments: [{data: digits}]',
           'experiments: [{data: digits, ipc: 1.5}]', 'experiments: [{data: {a: 1}}]', 'experiments: [{data: ../../x.npz}]', 'experiments: [{data: digits, method: {a: 1}}]'])]


@pytest.mark.parametrize('i', range(len(HOSTILE)))
def test_hostile_yaml(clone, i):
    path = clone/'nbs/paper/params/table1.yml'
    path.write_text(HOSTILE[i])
    assert survives(read_experiments, path)
