"The how-to on own data, walked with data of five kinds: each ends in a memory file on which a loop of plain PyTorch trains"
import json, types
from pathlib import Path
import numpy as np, pandas as pd, pytest, torch
from PIL import Image
from torch import nn
from remember_past.all import Memory, distill, load_data
from remember_past.baselines.distribution_matching import DistributionMatching
from remember_past.errors import BadInput
from remember_past.lab.commands import rp_distill

PAGE = {c['id']: ''.join(c['source']) for c in json.loads((Path(__file__).parents[1]/'nbs'/'howto'/'own_data.ipynb').read_text())['cells']}
LEARN = '0da7a001 fe9a70a5 db6e6d68 95ff0be4 856d2e86 0da7a002'.split()  # data, whitening, network, start, distil, save
READ = '0da7a003 0da7a005 0da7a007'.split()                              # the reader, the whitening, the loop


def walk(images, tmp_path, cells=LEARN, call='load_data(images)', given='make_net()', **names):
    "Run cells of the page as they stand, with these images, as few iterations as a test can wait for, and perhaps a function for a network"
    here = dict(images=images, folder=types.SimpleNamespace(name=str(tmp_path)), **names)
    exec(PAGE['8dd9f84a'], here)
    for i in [*cells, *READ]:
        exec(PAGE[i].replace('load_data(images)', call).replace('iterations=60', 'iterations=2').replace('inner_steps=15', 'inner_steps=3').replace('range(100)', 'range(3)')
             .replace('ds.y_train, make_net()', f'ds.y_train, {given}'), here)
    assert len(here['X']) == len(here['Y']) and set(here['Y'].tolist()) == set(range(here['ds'].n_classes)) and 0 <= here['right'] <= 1
    assert Memory.load(here['path']).classes == here['ds'].classes
    torch.testing.assert_close(here['X'], Memory.load(here['path']).recall()[0], atol=1e-4, rtol=1e-3)
    return here


def picture(rng, size, colour, c): # a class is a brightness
    a = rng.integers(0, 100, (*size, 3) if colour else size, np.uint8) + 12*c
    return Image.fromarray(a.astype(np.uint8))


def folders(home, counts, size, colour):
    rng = np.random.default_rng(0)
    for c, n in enumerate(counts):
        (home/f'class{c}').mkdir(parents=True)
        for i in range(n): picture(rng, size, colour, c).save(home/f'class{c}'/f'{i}.png')
    return f'{home}/'


def by_command(data, tmp_path, capsys, *more):
    "What the page says at its top, then its reader and its loop"
    assert 'rp_distill data=photos/ size=32 --out photos.safetensors' in PAGE['c2b5148f']
    out = str(tmp_path/'photos.safetensors')
    rp_distill([f'data={data}', 'iterations=2', 'inner_steps=2', 'eval_nets=1', 'eval_epochs=1', *more], out=out, runs=str(tmp_path/'runs'))
    said = capsys.readouterr().out
    assert 'a fifth of each class is set aside' in said and 'settings: whiten=standardize' in said
    return walk(data, tmp_path, ['0da7a001', 'db6e6d68'], path=out), said


def test_grey_pictures_in_folders(tmp_path, capsys):
    here, said = by_command(folders(tmp_path/'photos', [12, 12, 12], (20, 20), False), tmp_path, capsys)
    assert here['ds'].shape == (1, 20, 20) and 'in 3 classes' in said


def test_many_unbalanced_colour_classes(tmp_path, capsys):
    here, said = by_command(folders(tmp_path/'photos', [4 + c for c in range(12)], (64, 64), True), tmp_path, capsys, 'width=4', 'per_class=1', 'ipc=1', 'bases=40')
    assert here['ds'].shape == (3, 64, 64) and here['ds'].y_test.bincount().tolist() == [max(1, round(.2*(4 + int(c[5:])))) for c in here['ds'].classes]


def test_a_table_with_words(tmp_path):
    folders(tmp_path/'photos', [10, 10], (12, 12), True)
    files = sorted((tmp_path/'photos').rglob('*.png'))
    table = pd.DataFrame(dict(path=[f.relative_to(tmp_path/'photos').as_posix() for f in files], label=['dog' if 'class0' in str(f) else 'cat' for f in files]))
    here = walk(table, tmp_path, call=f'load_data(images, root={str(tmp_path/"photos")!r}, size=8)')
    assert here['ds'].classes == ['cat', 'dog'] and here['ds'].shape == (3, 8, 8)


class Rows(list):
    "Rows as Hugging Face's `datasets` gives them: dictionaries with a picture, and the names of the classes beside the column"
    def __init__(self, n):
        rng = np.random.default_rng(1)
        super().__init__(dict(image=picture(rng, (12, 12), i % 2 == 0, i % 3), label=i % 3) for i in range(n))
        self.features = dict(image=object(), label=types.SimpleNamespace(names=['ant', 'bee', 'cow']))


def test_rows_of_pictures(tmp_path):
    here = walk(dict(train=Rows(60), test=Rows(12)), tmp_path)
    assert here['ds'].classes == ['ant', 'bee', 'cow'] and len(here['ds'].y_test) == 12
    assert 'grey images among colour ones' in here['ds'].note


def test_rows_of_the_library_itself(tmp_path):
    datasets = pytest.importorskip('datasets')
    rows = Rows(30)
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=['ant', 'bee', 'cow']))
    ds = load_data(datasets.Dataset.from_dict({k: [r[k] for r in rows] for k in ('image', 'label')}, features=features))
    assert torch.equal(ds.x_train, load_data(rows).x_train) and ds.classes == ['ant', 'bee', 'cow']


@pytest.mark.parametrize('given', ['make_net()', 'make_net'])
def test_a_network_of_ones_own(tmp_path, given):
    "With group normalisation, given as an instance and as a function"
    assert 'nn.GroupNorm' in PAGE['db6e6d68'] and 'ds.y_train, make_net,' in PAGE['09ff0928']
    here = walk([(torch.rand(3, 8, 8), f'word{i % 4}') for i in range(80)], tmp_path, given=given)
    assert here['ds'].n_classes == 4


def own(n=40, classes=2):
    x, y = torch.rand(n, 1, 8, 8), torch.arange(n) % classes
    return Memory.per_class(1, (1, 8, 8), [str(c) for c in range(classes)]), x, y, nn.Sequential(nn.Flatten(), nn.Linear(64, classes))

QUICK = dict(iterations=1, inner_steps=2, per_class=1, real_per_class=2)


def test_networks_that_cannot_be_meant():
    "Frozen weights would be redrawn and trained, and outputs without a class would pass: both are refused"
    start, x, y, net = own()
    for p in net.parameters(): p.requires_grad = False
    with pytest.raises(BadInput, match='requires_grad|frozen'): distill(start, x, y, net, **QUICK)
    with pytest.raises(BadInput, match='outputs'): distill(start, x, y, nn.Sequential(nn.Flatten(), nn.Linear(64, 5)), **QUICK)
    assert distill(start, x, y, lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), **QUICK).K == 2


def test_compared_methods_check_labels_too():
    start, x, y, net = own()
    for wrong in y + 7, y.float():
        with pytest.raises(BadInput, match='label'): DistributionMatching(start, x, wrong, net, iterations=1, real_per_class=2)


def test_no_clipping_is_none_everywhere():
    start, x, y, net = own()
    with pytest.raises(BadInput, match='clip'): distill(start, x, y, net, **QUICK, clip=0.)
    with pytest.raises(SystemExit): rp_distill(['data=digits', 'clip=0'], dry_run=True)
