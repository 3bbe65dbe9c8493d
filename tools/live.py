"""What the pages of nbs/live read: memories as text, and a few real test digits.

`live.py` writes the files from figures/small/memories, `live.py --check` only compares, `live.py --library` fetches TensorFlow.js
with npm and puts it beside the pages (it is not committed; the site's build does the same). The digits are compared where MNIST is at hand.
"""
import base64, hashlib, json, os, shutil, subprocess, sys, tarfile, tempfile, zlib
from pathlib import Path
import numpy as np

top = Path(__file__).resolve().parent.parent
live, memories = top/'nbs'/'live', top/'figures'/'small'/'memories'
LIBRARY, MEMBER = '@tensorflow/tfjs@4.22.0', 'package/dist/tf.min.js'
SHA256 = '300dfae273d20b4046f46a06d735688f03675a807561e9bcb5f664eb2f3d2831'   # of that file
SHOWN = {'CIFAR-10': 'cifar10', 'MNIST': 'mnist', 'Fashion-MNIST': 'fashion_mnist'}   # all at one image per class
PER_CLASS = 30

def text(a): return base64.b64encode(a.tobytes()).decode()

def memory_of(data):
    "The committed memory of shared bases of a data set, at one image per class"
    from remember_past.memory import Memory
    return Memory.load(next(memories.glob(f'{data}-ipc1-full-*.safetensors')))

def similarity(name, memory):
    "Mean coefficients (classes x K) of a memory, and its bases as 8-bit pictures, each stretched to its own range"
    from remember_past.show.pictures import to_pixels
    stills = to_pixels(memory.bases*1e3).transpose(0, 3, 1, 2)   # far outside 0 to 1: every basis is stretched
    return dict(name=name, K=memory.K, classes=memory.classes, shape=list(memory.bases.shape[1:]),
                bases=text((stills*255).round().astype('u1')), means=text(memory.mean_coefs().numpy().astype('<f4')))

def digits():
    "The first test digits of each class (uint8 300 x 28 x 28), all of a class together"
    from remember_past.data.load import load_data
    ds = load_data('mnist')
    first = [i for c in range(10) for i in (ds.y_test == c).nonzero().flatten()[:PER_CLASS].tolist()]
    return (ds.x_test[first, 0].numpy()*255).round().astype('u1')

def read_digits():
    "What digits.json holds"
    packed = json.loads((live/'digits.json').read_text())['pixels']
    return np.frombuffer(zlib.decompress(base64.b64decode(packed)), 'u1').reshape(-1, 28, 28)

def packed_digits():
    "What digits.json should hold"
    return dict(source=f'MNIST, test set: the first {PER_CLASS} of each class', perClass=PER_CLASS,
                pixels=text(np.frombuffer(zlib.compress(digits(), 9), 'u1')))

def contents():
    "File name -> what it holds, for all that comes from the memories"
    from remember_past.show.live import page_memory
    return {'mnist.json': page_memory(memory_of('mnist')), 'similarity.json': [similarity(n, memory_of(d)) for n, d in SHOWN.items()]}

def fetch_library():
    "TensorFlow.js into nbs/live/tf.min.js, from the registry that npm uses; says in a sentence why not"
    target, npm = live/'tf.min.js', shutil.which('npm')
    whole = lambda data: hashlib.sha256(data).hexdigest() == SHA256
    if target.exists() and whole(target.read_bytes()): return ''
    if not npm: return f'npm is not on the PATH, so {LIBRARY} is not beside the pages: nothing can be trained in them'
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([npm, 'pack', '--silent', '--pack-destination', folder, LIBRARY], cwd=folder, capture_output=True, text=True)
        packed = list(Path(folder).glob('*.tgz'))
        if done.returncode or not packed: return f'npm could not fetch {LIBRARY}: {(done.stderr.strip().splitlines() or ["no reason given"])[-1]}'
        with tarfile.open(packed[0]) as f: data = f.extractfile(MEMBER).read()
    if not whole(data): return f'{MEMBER} of {LIBRARY} is not the file that we know (sha256 {SHA256[:12]}...), so it was not kept'
    part = target.with_suffix('.tmp'); part.write_bytes(data); os.replace(part, target)
    return ''

def at_hand():
    "Is MNIST here, so that nothing has to be downloaded?"
    from remember_past.data.files import data_root
    return (data_root()/'mnist.npz').exists()

def stale():
    "Files of nbs/live that are not what the memories give, and the digits, if MNIST is at hand to compare with"
    same = lambda name, want: (live/name).exists() and json.loads((live/name).read_text()) == want
    old = [name for name, want in contents().items() if not same(name, want)]
    known = (live/'digits.json').exists() and (not at_hand() or np.array_equal(read_digits(), digits()))
    return old if known else [*old, 'digits.json']

def write():
    "Write what is stale"
    made = contents()
    for name in stale():
        held = made[name] if name in made else packed_digits()
        part = live/(name + '.tmp'); part.write_text(json.dumps(held), encoding='utf-8'); os.replace(part, live/name)
        print(f'{name}  written, {(live/name).stat().st_size/1e3:.0f} kB')

def main(words):
    if words == ['--library']: return fetch_library() or print('nbs/live/tf.min.js is there')
    if words not in ([], ['--check']): return f'live.py knows --check and --library, not {" ".join(words)}'
    if not words: return write()
    old = stale()
    return f'{", ".join(old)} in nbs/live out of step with figures/small/memories, run `make live`' if old else print('nbs/live in step')

if __name__ == '__main__': sys.exit(main(sys.argv[1:]))
