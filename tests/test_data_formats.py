"""`load_data` reads the files that the data sets are really published in, and refuses broken ones in one sentence.

Small files in the original formats are written here (idx under gzip, pickled batches, MATLAB matrices) and read
through torchvision. It compares MD5 sums with the published files, so that one comparison is switched off; and
the network is switched off, so that nothing here can pass by downloading.
"""
import gzip, pickle, struct, zipfile
import numpy as np, pytest, torch
from remember_past.data.files import DATASETS, KEYS, data_root, present
from remember_past.data.load import load_data, pick_device
from remember_past.errors import BadInput

N_TRAIN, N_TEST = 40, 20


@pytest.fixture
def torchvision_offline(monkeypatch):
    "torchvision without its MD5 comparison and without a network"
    from torchvision.datasets import utils
    def offline(*args, **kwargs): raise OSError('there is no network in this test')
    monkeypatch.setattr(utils, 'check_md5', lambda *args, **kwargs: True)
    monkeypatch.setattr(utils, '_get_redirect_url', offline)
    monkeypatch.setattr(utils, '_urlretrieve', offline)


def images(n, *shape, seed=0): return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


def idx(a):
    "The idx format of MNIST: two zero bytes, type 8 (uint8), number of axes, their sizes, the values"
    return struct.pack(f'>BBBB{a.ndim}I', 0, 0, 8, a.ndim, *a.shape) + a.tobytes()


def write_mnist(folder, compress):
    folder.mkdir(parents=True)
    arrays = {'train-images-idx3-ubyte': images(N_TRAIN, 28, 28), 'train-labels-idx1-ubyte': (np.arange(N_TRAIN) % 10).astype(np.uint8),
              't10k-images-idx3-ubyte': images(N_TEST, 28, 28, seed=1), 't10k-labels-idx1-ubyte': (np.arange(N_TEST) % 10).astype(np.uint8)}
    for name, a in arrays.items():
        if compress: (folder/f'{name}.gz').write_bytes(gzip.compress(idx(a)))
        else: (folder/name).write_bytes(idx(a))
    return arrays


def write_cifar(folder, names, meta, key, classes):
    "Pickled batches: rows of 3072 bytes, all red, then green, then blue"
    folder.mkdir(parents=True)
    rows = {}
    for i, (name, n) in enumerate(names.items()):
        rows[name] = images(n, 3072, seed=i)
        (folder/name).write_bytes(pickle.dumps({'data': rows[name], key: [j % len(classes) for j in range(n)]}))
    (folder/meta[0]).write_bytes(pickle.dumps({meta[1]: classes}))
    return rows


@pytest.mark.parametrize('name, sub', [('mnist', 'MNIST'), ('fashion_mnist', 'FashionMNIST')])
@pytest.mark.parametrize('compress', [True, False])
def test_idx(tmp_path, torchvision_offline, name, sub, compress):
    assert not present(name, tmp_path)
    arrays = write_mnist(tmp_path/sub/'raw', compress)
    assert present(name, tmp_path)
    d = load_data(name, tmp_path, val=0)
    assert d.shape == (1, 28, 28) and d.n_classes == 10 and d.x_train.dtype == torch.float32
    assert torch.equal(d.x_train[:, 0], torch.from_numpy(arrays['train-images-idx3-ubyte'])/255)
    assert d.y_test.tolist() == [i % 10 for i in range(N_TEST)] and d.y_test.dtype == torch.int64
    assert d.classes[0] == ('0' if name == 'mnist' else 'T-shirt/top')


def test_cifar10(tmp_path, torchvision_offline):
    names = {**{f'data_batch_{i}': 20 for i in range(1, 6)}, 'test_batch': N_TEST}
    words = 'airplane automobile bird cat deer dog frog horse ship truck'.split()
    rows = write_cifar(tmp_path/'cifar-10-batches-py', names, ('batches.meta', 'label_names'), 'labels', words)
    assert present('cifar10', tmp_path)
    d = load_data('cifar10', tmp_path, val=0.1)
    assert d.shape == (3, 32, 32) and d.classes == words
    assert (len(d.y_train), len(d.y_val)) == (90, 10) and d.y_val.bincount().tolist() == [1]*10
    assert torch.equal(d.x_test.flatten(1), torch.from_numpy(rows['test_batch'])/255)  # red plane first, as published


def test_cifar100(tmp_path, torchvision_offline):
    words = [f'word{i}' for i in range(100)]
    write_cifar(tmp_path/'cifar-100-python', {'train': 200, 'test': 100}, ('meta', 'fine_label_names'), 'fine_labels', words)
    d = load_data('cifar100', tmp_path, val=0.5)
    assert d.n_classes == 100 and d.classes == words and d.y_val.bincount().tolist() == [1]*100


def test_svhn(tmp_path, torchvision_offline):
    scipy_io = pytest.importorskip('scipy.io')
    for name, n in (('train', N_TRAIN), ('test', N_TEST)):  # height x width x channels x N, labels 1 .. 10 where 10 is the digit 0
        x = images(n, 32, 32, 3)
        scipy_io.savemat(tmp_path/f'{name}_32x32.mat', {'X': x.transpose(1, 2, 3, 0), 'y': (1 + np.arange(n) % 10)[:, None].astype(np.uint8)})
    assert present('svhn', tmp_path)
    d = load_data('svhn', tmp_path, val=0)
    assert d.shape == (3, 32, 32) and d.y_test.tolist() == [(1 + i) % 10 for i in range(N_TEST)]
    assert torch.equal(d.x_test, torch.from_numpy(x).permute(0, 3, 1, 2)/255)
    assert d.classes == [str(i) for i in range(10)]


def test_reading_writes_nothing(tmp_path, torchvision_offline):
    write_mnist(tmp_path/'MNIST'/'raw', compress=False)
    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob('*'))
    load_data('mnist', tmp_path)
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob('*')) == before


def arrays(**changes):
    a = dict(x_train=images(40, 8, 8), y_train=np.arange(40) % 4, x_test=images(12, 8, 8), y_test=np.arange(12) % 4, classes=np.array(list('abcd')))
    return {k: v for k, v in {**a, **changes}.items() if v is not None}


def test_prepared_file_comes_first(tmp_path, torchvision_offline):
    write_mnist(tmp_path/'MNIST'/'raw', compress=False)
    np.savez_compressed(tmp_path/'mnist.npz', **arrays(), x_extra=np.zeros(3))  # other arrays in it don't matter
    assert load_data('mnist', tmp_path).shape == (1, 8, 8)


def test_root_from_environment(tmp_path, monkeypatch):
    np.savez(tmp_path/'svhn.npz', **arrays())
    monkeypatch.setenv('REMEMBER_PAST_DATA', str(tmp_path))
    assert data_root() == tmp_path and present('svhn') and load_data('svhn').classes == list('abcd')


def test_floats_of_ones_own(tmp_path):
    np.savez(tmp_path/'own.npz', **arrays(x_train=np.full((40, 3, 8, 8), -7.5), x_test=np.full((12, 3, 8, 8), 300.)))
    d = load_data(str(tmp_path/'own.npz'))
    assert d.name == 'own' and d.shape == (3, 8, 8) and d.x_train.unique().tolist() == [-7.5] and d.x_test.unique().tolist() == [300.]


def refused(f, *words):
    "f() raises BadInput with one sentence that holds these words"
    with pytest.raises(BadInput) as e: f()
    said = str(e.value)
    assert '\n' not in said and len(said) < 600, said
    for w in words: assert w in said, said


WRONG = {
    'missing keys': (dict(y_test=None), 'lacks y_test'),
    'labels beyond the classes': (dict(y_train=np.arange(40) % 5), 'names 4 classes', 'up to 4'),
    'test labels beyond the classes': (dict(y_test=np.full(12, 9)), 'y_test holds labels from 9 to 9'),
    'negative labels': (dict(y_train=np.arange(40) % 4 - 1), 'from -1'),
    'labels that are not whole': (dict(y_train=np.arange(40)/4), 'float64'),
    'words here, numbers there': (dict(y_train=np.array(['a']*40)), 'of one kind'),
    'labels in a column': (dict(y_train=(np.arange(40) % 4)[:, None]), 'shape (40, 1)'),
    'fewer labels than images': (dict(y_train=np.arange(39) % 4), 'for 40 images'),
    'pickled objects': (dict(x_train=np.array([{}]*40, object)), 'pickled'),
    'flat images': (dict(x_train=images(40, 64)), 'x_train has shape (40, 64)'),
    'two channels': (dict(x_train=images(40, 8, 8, 2)), '1 or 3'),
    'sizes that differ': (dict(x_test=images(12, 9, 9)), 'must agree'),
    'images of whole numbers': (dict(x_train=images(40, 8, 8).astype(int)), 'int64'),
    'NaN': (dict(x_train=np.full((40, 8, 8), np.nan)), 'NaN'),
    'infinite test images': (dict(x_test=np.full((12, 8, 8), np.inf)), 'x_test holds NaN or infinite'),
    'an empty class': (dict(y_train=np.arange(40) % 3), "class 'd' has no training images"),
    'a gap in the labels': (dict(y_train=np.arange(40) % 3 * 2, classes=None), 'has no training images'),
    'an enormous label': (dict(y_train=np.r_[np.arange(39) % 4, 2**62], classes=None), 'holds labels'),
    'one image in a class': (dict(y_train=np.r_[np.arange(39) % 3, 3]), 'only one image'),
    'a class named twice': (dict(classes=np.array(list('abca'))), 'each class once'),
    'no training images': (dict(x_train=images(0, 8, 8), y_train=np.arange(0)), 'at least one'),
    'no test images': (dict(x_test=images(0, 8, 8), y_test=np.arange(0)), 'at least one'),
}


@pytest.mark.parametrize('case', WRONG)
def test_wrong_arrays(tmp_path, case):
    changes, *words = WRONG[case]
    np.savez(tmp_path/'own.npz', **arrays(**changes))
    refused(lambda: load_data(tmp_path/'own.npz'), *words)


def test_every_truncation(tmp_path):
    np.savez_compressed(tmp_path/'whole.npz', **arrays())
    whole = (tmp_path/'whole.npz').read_bytes()
    for n in [*range(0, len(whole), max(1, len(whole)//60)), len(whole)-1]:
        (tmp_path/'cut.npz').write_bytes(whole[:n])
        refused(lambda: load_data(tmp_path/'cut.npz'), 'cut.npz', 'cut off')


def test_every_damaged_byte(tmp_path):
    "One wrong byte is either refused in one sentence or changes nothing that is read"
    np.savez_compressed(tmp_path/'whole.npz', **arrays())
    whole, good = (tmp_path/'whole.npz').read_bytes(), load_data(tmp_path/'whole.npz')
    for i in range(0, len(whole), max(1, len(whole)//150)):
        (tmp_path/'bad.npz').write_bytes(whole[:i] + bytes([whole[i] ^ 0x55]) + whole[i+1:])
        try: d = load_data(tmp_path/'bad.npz')
        except BadInput as e: assert '\n' not in str(e)
        else: assert torch.equal(d.x_train, good.x_train) and torch.equal(d.y_test, good.y_test)


def header_only(path, shape, descr='|u1', fill=0):
    "An archive whose arrays claim a shape and hold `fill` zero bytes"
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as z:
        for k in KEYS:
            with z.open(f'{k}.npy', 'w', force_zip64=True) as f:
                np.lib.format.write_array_header_1_0(f, dict(descr=descr, fortran_order=False, shape=shape))
                for _ in range(fill >> 20): f.write(bytes(1 << 20))


def test_claims_more_than_it_holds(tmp_path):
    header_only(tmp_path/'a.npz', (10**12, 32, 32, 3))
    refused(lambda: load_data(tmp_path/'a.npz'), 'more than the file holds')
    header_only(tmp_path/'b.npz', (4, 4), '|V999999999999')
    refused(lambda: load_data(tmp_path/'b.npz'), 'b.npz')


def test_zip_bomb(tmp_path):
    "600 MiB of zeros an array in a small file: refused from the declared sizes, since float32 needs four times as much"
    header_only(tmp_path/'bomb.npz', (600 << 20, 1, 1), fill=600 << 20)
    assert (tmp_path/'bomb.npz').stat().st_size < 4e6
    refused(lambda: load_data(tmp_path/'bomb.npz'), '9.4 GiB', '8 GiB')


def test_names_and_places(tmp_path, torchvision_offline):
    refused(lambda: load_data('fashion-mnist'), "Unknown data set 'fashion-mnist'", 'did you mean fashion_mnist?')
    refused(lambda: load_data('imagenet'), *DATASETS)
    refused(lambda: load_data(tmp_path/'none.npz'), 'There is no file')
    refused(lambda: load_data(str(tmp_path)+'/folder.npz'), 'There is no file')
    refused(lambda: load_data('cifar10', tmp_path), 'neither read from', 'put a prepared cifar10.npz there')
    (tmp_path/'file').write_text('in the way')
    refused(lambda: load_data('svhn', tmp_path/'file'), 'cannot be written')
    refused(lambda: load_data('digits', val=1.0), 'below 1')
    refused(lambda: load_data('digits', seed=-1), 'seed')
    refused(lambda: load_data('digits', device='tpu'), 'choose auto, cpu or cuda')


def test_files_that_torchvision_cannot_read(tmp_path, torchvision_offline):
    write_mnist(tmp_path/'MNIST'/'raw', compress=False)
    f = tmp_path/'MNIST'/'raw'/'train-images-idx3-ubyte'
    f.write_bytes(f.read_bytes()[:-100])
    refused(lambda: load_data('mnist', tmp_path), 'mnist could be neither read')


def test_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 0)
    assert pick_device('auto') == torch.device('cpu') == pick_device(torch.device('cpu'))
    refused(lambda: pick_device('cuda'), 'CUDA')
    refused(lambda: load_data('digits', device='cuda:1'), 'cuda:1')
