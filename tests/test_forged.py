"""Files whose digest is right and whose content is nonsense: each is read as it is or refused in one sentence.

Also what happens at every point where a run writes. REMEMBER_PAST_MUTANTS sets how many files are forged, 300 of each kind unless set;
REMEMBER_PAST_FAULTS how many writes are disturbed, one of each kind unless set.
"""
import copy, errno, json, os, random, shutil, warnings
from collections import Counter
from pathlib import Path
import pytest, torch
from safetensors.torch import save
from remember_past.atomic_files import _SEAL, _seal, read_tensors
from remember_past.data.whiten import fit_whitening
from remember_past.errors import BadInput
from remember_past.hashes import canonical, digest
from remember_past.lab import runs as R
from remember_past.lab.distillation import run_distillation
from remember_past.lab.runs import Run, sweep
from remember_past.lab.records import failure, find_records
from remember_past.lab.settings import check_values, complete
from remember_past.lab.tables import pm
from remember_past.lab.verify import claims
from remember_past.lab.workers import make_experiment
from remember_past.memory import Memory
from remember_past.show.pictures import to_pixels
from test_fuzz import survives
from test_survive import SMALL, interrupted, memories, numbers, one_thread

MUTANTS, FAULTS = int(os.environ.get('REMEMBER_PAST_MUTANTS', 300)), int(os.environ.get('REMEMBER_PAST_FAULTS', 0))
NONSENSE = [None, True, False, 0, -1, 1, 7, 64, 2**31, 2**63, 10**19, 1e308, -.5, 1e-320, '', 'x', 'zca', '\ud800', 'a'*5000, [], {}, [1], [[]], ['a', 'a'], {'a': 1}]
LITERAL = {'@many': '9'*4000, '@nan': 'NaN', '@inf': '1e999', '@deep': '['*100_000}   # what `json.dumps` does not write


def places(x, at=()):
    "Every place in a JSON value"
    yield at
    for k in x if isinstance(x, dict) else range(len(x)) if isinstance(x, list) else (): yield from places(x[k], (*at, k))


def forged(value, rng):
    "JSON text of a value of which one or two places say something else"
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 2))):
        if not (options := [p for p in places(value) if p]): break
        at = rng.choice(options)
        home = value
        for k in at[:-1]: home = home[k]
        kind = rng.randrange(5)
        if kind == 0: del home[at[-1]]
        elif kind == 1 and isinstance(home, dict): home['more'] = copy.deepcopy(rng.choice(NONSENSE))
        else: home[at[-1]] = copy.deepcopy(rng.choice([*NONSENSE, *LITERAL]))
    text = json.dumps(value, sort_keys=True)
    for name, literal in LITERAL.items(): text = text.replace(f'"{name}"', literal)
    return text


def bent(tensors, rng):
    "The tensors, one of another type or shape"
    name = rng.choice([*tensors]); t = tensors[name]
    kind = rng.randrange(6)
    if kind == 0: return {k: v for k, v in tensors.items() if k != name}
    if kind == 1: t = t.to(rng.choice([torch.int64, torch.uint8, torch.bfloat16, torch.float16, torch.float64, torch.bool]))
    elif kind == 2: t = t[:0]
    elif kind == 3: t = t.flatten() if t.ndim > 1 else t[:, None]
    elif kind == 4: t = t[:-1] if len(t) > 1 else torch.cat([t, t])
    else: t = t.unsqueeze(0) if rng.random() < .5 else t.transpose(0, -1).contiguous()
    return tensors | {name: t}


def used(path):
    "All that the commands do with a memory file"
    memory = Memory.load(path)
    repr(memory); x, _ = memory.recall()
    to_pixels(x[:2], memory.whitening)
    check_values(memory.meta.get('settings', {}), path)
    pm([memory.meta.get('mean'), memory.meta.get('std')])
    claims(str(path), 'quick')


@pytest.mark.parametrize('kind', ['standardize', 'zca'])
def test_memories(tmp_path, kind):
    x, rng, said = torch.rand(200, 1, 8, 8), random.Random(3), Counter()
    m = Memory.addressed(4, 2, (1, 8, 8), ['a', 'b', 'c'], scale=2, whitening=fit_whitening(kind, x))
    m.meta = dict(settings=complete(**SMALL), accuracy=[50., 51.], mean=50.5, std=.7, protocol='p')
    head, tensors = read_tensors(m.save(tmp_path/'m.safetensors'))
    head, path = json.loads(head['remember_past']), tmp_path/'forged.safetensors'
    used(tmp_path/'m.safetensors')
    for i in range(MUTANTS//2):
        many = bent(tensors, rng) if rng.random() < .4 else tensors
        text = forged({k: v for k, v in head.items() if k != 'sha256'} | dict(digest=digest(many)), rng) if many is tensors or rng.random() < .2 else \
            json.dumps({k: v for k, v in head.items() if k != 'sha256'} | dict(digest=digest(many)), sort_keys=True)
        data = save(many, {'remember_past': '{"sha256": "' + '0'*64 + '", ' + text[1:]})
        a = 8 + len(_SEAL)
        path.write_bytes(data[:a] + _seal(data)[1].encode() + data[a+64:])
        try: said[survives(used, path)] += 1
        except Exception as e: raise AssertionError(f'number {i}: {type(e).__name__}: {e}') from e
    print(f'{kind}: {said[True]} refused and {said[False]} read of {MUTANTS//2}')
    assert said[True] > MUTANTS/5


def test_records(tmp_path):
    "Records whose checksum is that of what they say, settings and failures beside them"
    settings, rng, said = complete(**SMALL), random.Random(4), Counter()
    run = Run(tmp_path, 'cells', settings)
    run.finish(dict(mean=50., std=.5, accuracy=[50.], minutes=1., floats=64, history=[dict(loss=1.)], memory=None))
    record = json.loads((run.folder/'record.json').read_text()); record.pop('checksum')
    def read(path):
        for r in find_records(tmp_path): pm([r.get('mean'), r.get('std')])
        Run(tmp_path, 'cells', settings, create=False), failure(run.folder), run.twin(dict, 'memory.safetensors')
    for i in range(MUTANTS):
        which = rng.choice(('record.json', 'record.json', 'settings.json', 'failed.json')); path = run.folder/which
        old = path.read_bytes() if path.exists() else b''
        text = forged(dict(record) if which == 'record.json' else settings if which == 'settings.json' else dict(error='e'), rng)
        if which == 'record.json':
            try: text = text[:-1] + ', "checksum": "' + R.hashlib.sha256(canonical(json.loads(text))).hexdigest() + '"}'
            except (ValueError, RecursionError, UnicodeError): pass
        path.write_text(text, encoding='utf-8', errors='surrogatepass')
        try: said[survives(read, path)] += 1
        except Exception as e: raise AssertionError(f'number {i}, {which}: {type(e).__name__}: {e}: {text[:200]}') from e
        path.write_bytes(old) if old else path.unlink()
    print(f'{said[True]} refused and {said[False]} read of {MUTANTS}')
    assert said[True] > MUTANTS/5 and read(run.folder) is None


def test_checkpoints(tmp_path):
    "A pickle of something else, nonsense, and a list, each with its own sum beside it"
    from remember_past.lab.status import _reached
    run = Run(tmp_path, 'cells', complete(**SMALL))
    run.save_checkpoint(dict(iteration=3)); assert _reached(run) == 3
    for data in (b'nonsense', b'\x80\x04cos\nsystem\n.', b''):
        (run.folder/'checkpoint.pt').write_bytes(data)
        (run.folder/'checkpoint.sha256').write_text(R.hashlib.sha256(data).hexdigest())
        with pytest.raises(BadInput, match='no checkpoint of ours'): run.load_checkpoint()
        assert _reached(run) == 0


def test_every_write_is_disturbed(tmp_path, monkeypatch):
    "A full disk, a broken one, a death, at every fsync and rename of a run: one sentence, the same command again, the same bytes, nothing left over"
    torch.set_num_threads(1)
    settings = complete(**SMALL | dict(iterations=3, eval_nets=1, eval_epochs=1))
    from remember_past.lab import distillation as D
    learn = D.Distillation.learn
    monkeypatch.setattr(D.Distillation, 'learn', lambda *a, **k: learn(*a, **k, every=0))   # a checkpoint after every iteration
    real = dict(fsync=os.fsync, replace=os.replace)
    class Death(BaseException): pass
    def disturbed(at, how, folder):
        "The run, disturbed at call number `at`; how many calls there were"
        calls = [0]
        def wrap(name):
            def f(*a):
                calls[0] += 1
                if calls[0] == at and how: raise Death if how == 'death' else OSError(how, os.strerror(how))
                if calls[0] > at and how == 'death': raise Death       # nobody writes after his death
                return real[name](*a)
            return f
        for name in real: monkeypatch.setattr(os, name, wrap(name))
        try:
            with warnings.catch_warnings(): warnings.simplefilter('ignore'); run_distillation(settings, folder)
        except BadInput as e: assert how in (errno.ENOSPC, errno.EIO) and ('cannot write' in str(e) or 'cannot read or write' in str(e)), (how, e)
        except Death: assert how == 'death'
        finally:
            for name in real: monkeypatch.setattr(os, name, real[name])
        return calls[0]
    n = disturbed(0, None, tmp_path/'whole')
    whole = memories(tmp_path/'whole'), numbers(find_records(tmp_path/'whole'))
    points, rng = range(1, n + 1), random.Random(5)
    todo = [(at, how) for how in (errno.ENOSPC, errno.EIO, 'death') for at in points]
    todo = rng.sample(todo, 24) if not FAULTS else [todo[i % len(todo)] for i in range(FAULTS)]
    for i, (at, how) in enumerate(todo):
        folder = tmp_path/str(i)
        disturbed(at, how, folder); disturbed(0, None, folder)
        sweep(folder)
        assert (memories(folder), numbers(find_records(folder))) == whole, (at, how)
        assert {p.name for p in folder.rglob('*') if p.is_file()} == {'lock', 'memory.safetensors', 'record.json', 'settings.json'}, (at, how)
    print(f'{len(todo)} of {3*n} disturbances: none differs, nothing is left')


def test_every_read_is_disturbed(tmp_path, monkeypatch):
    "The disk fails at each read of a run that goes on and of one that is there: one sentence, nothing lost, and the same command again gives the same bytes"
    torch.set_num_threads(1)
    settings = complete(**SMALL | dict(iterations=3, eval_nets=1, eval_epochs=1))
    for at in (1, 2): run = interrupted(settings, tmp_path/'begun', at)
    run_distillation(settings, tmp_path/'whole')
    whole, real = memories(tmp_path/'whole'), dict(read_bytes=Path.read_bytes, read_text=Path.read_text)
    def disturbed(at, folder):
        "The run, disturbed at read number `at`: how many reads there were, and how it ended"
        calls = [0]
        def wrap(name):
            def f(*a, **k):
                calls[0] += 1
                if calls[0] == at: raise OSError(errno.EIO, os.strerror(errno.EIO))
                return real[name](*a, **k)
            return f
        for name in real: monkeypatch.setattr(Path, name, wrap(name))
        try:
            with warnings.catch_warnings(): warnings.simplefilter('ignore'); ended = make_experiment(settings, folder)[1]
        except BadInput as e: ended = str(e)
        finally:
            for name in real: monkeypatch.setattr(Path, name, real[name])
        assert ended == 'made' or 'cannot read' in ended and '\n' not in ended, ended
        return calls[0], ended
    ends = Counter()
    for origin in ('begun', 'whole'):
        shutil.copytree(tmp_path/origin, tmp_path/f'{origin}-0')
        n, _ = disturbed(0, tmp_path/f'{origin}-0')
        for at in range(1, n + 1):
            folder = tmp_path/f'{origin}-{at}'
            shutil.copytree(tmp_path/origin, folder)
            ends[disturbed(at, folder)[1] == 'made'] += 1
            disturbed(0, folder)
            assert memories(folder) == whole, (origin, at)
    print(f'{ends[False]} of {sum(ends.values())} end in a sentence')
    assert ends[False] > 2
