"Memories of other shapes go through the same doors as the paper's; adding one takes a class, and no change elsewhere"
import subprocess, sys
import numpy as np, pytest, torch
from remember_past.data.load import load_data
from remember_past.distill import distill
from remember_past.errors import BadInput
from remember_past.hub import model_card
from remember_past.lab.commands import rp_distill, rp_evaluate, rp_recall, rp_verify
from remember_past.lab.settings import complete
from remember_past.loggers import CSVLogger
from remember_past.memories.decoded import Decoded
from remember_past.memories.overview import known_kinds
from remember_past.memory import Memory
from remember_past.nets import MLP
from remember_past.show.explorer import explore
from remember_past.show.pictures import show_memory

SHORT = ['data=digits', 'whiten=standardize', 'net=mlp', 'width=16', 'inner_steps=4', 'inner_lr=0.1', 'per_class=4', 'outer=adam', 'outer_lr=0.02',
         'real_per_class=8', 'iterations=6', 'eval_nets=4', 'eval_epochs=20', 'eval_lr=0.1']
kinds = dict(known_kinds())


def through_all_doors(method, folder, capsys, *more):
    "Distil, recall, evaluate, verify and draw a memory; its file, and what was printed"
    file = str(folder/'memory.safetensors')
    rp_distill([*SHORT, f'method={method}', *more], out=file, runs=str(folder/'runs'))
    rp_recall(file, str(folder/'recall.npz')); rp_recall(file, str(folder/'recall.png'))
    rp_evaluate(file, nets=2); rp_verify(file, nets=4)
    memory = Memory.load(file)
    assert len(show_memory(memory).axes) and len(explore(memory).axes)
    assert len(np.load(folder/'recall.npz')['images']) == 10*memory.r
    return memory, capsys.readouterr().out


@pytest.fixture
def toy():
    "An eleventh kind, defined here and nowhere else; forgotten afterwards"
    class Shifted(Decoded):
        name, title = 'shifted', 'one image of each class, recalled at several places'
        options = dict(reach=(2, 'pixels that an image moves at most'))
        def layout(self, n): return dict(image=(self.d_y, *self.shape), place=(n, self.d_y, 2))
        def decode(self, t, c):
            moves = t.place[:, c].transpose(0, 1).tanh()*self.o.reach*2/self.shape[1]
            eye = torch.eye(2).to(moves).expand(*moves.shape[:2], 2, 2)
            grid = torch.nn.functional.affine_grid(torch.cat([eye, moves[..., None]], -1).flatten(0, 1), (moves.shape[:2].numel(), *self.shape), False)
            many = t.image[c].repeat_interleave(moves.shape[1], 0)
            return torch.nn.functional.grid_sample(many, grid, align_corners=False).unflatten(0, moves.shape[:2])
    yield Shifted
    Memory.kinds.pop('shifted')


def test_a_kind_of_ones_own_needs_no_change_elsewhere(toy, tmp_path, capsys):
    memory, said = through_all_doors('shifted', tmp_path, capsys, 'ipc=2', 'reach=1')
    assert isinstance(memory, toy) and memory.o.reach == 1 and memory.floats <= 1280 and memory.r > 1
    assert 'digits, 2 images per class, shifted' in said and 'shifted (reach 1)' in said


def test_an_unknown_kind_says_what_to_do(toy, tmp_path):
    path = toy.begin(900, (1, 8, 8), ['a', 'b']).save(tmp_path/'m.safetensors')
    kept = Memory.kinds.pop('shifted')
    try:
        with pytest.raises(BadInput, match='import the module that defines it'): Memory.load(path)
    finally: Memory.kinds['shifted'] = kept


def test_settings_of_a_kind():
    o = complete(method='separable', rank=3)
    assert o['rank'] == 3 and o['bases'] == kinds['separable'].defaults()['bases'] and 'bits' not in o and 'soft' not in o
    assert complete(**o) == o and complete(method='separable', bits=16)['bits'] == 16
    for wrong, says in (dict(rank=0), '1 or more'), (dict(ranks=3), 'did you mean rank'), (dict(bits=12), '32, 16 or 8'):
        with pytest.raises(BadInput, match=says): complete(method='separable', **wrong)
    for wrong in dict(bits=16), dict(soft=True):
        with pytest.raises(BadInput, match='leave out bits and soft'): complete(method='full', **wrong)
    with pytest.raises(BadInput, match='leave objective out'): complete(method='full', objective='dm')
    with pytest.raises(BadInput, match='bptt'): complete(method='separable', objective='kip')
    with pytest.raises(BadInput, match='rank'): complete(method='full', rank=2)


def test_an_option_that_is_a_setting_already(toy):
    toy.options = dict(width=(3, 'of something else'))
    with pytest.raises(BadInput, match="calls an option 'width'"): complete(method='shifted')


@pytest.mark.parametrize('more', [['bits=8', 'start=real'], ['soft=true'], ['objective=dm', 'start=real', 'net=convnet', 'depth=2']], ids=' '.join)
def test_bits_and_labels(more, tmp_path, capsys):
    memory, said = through_all_doors('separable', tmp_path, capsys, 'bases=4', 'rank=1', *more)
    assert memory.name == 'separable' and memory.bits == (8 if 'bits=8' in more else 32) and memory.soft is ('soft=true' in more)
    assert memory.recall()[1].ndim == 1 + memory.soft


SMALL = dict(patches=dict(cuts=2, dictionary=16), coordinates=dict(units=3), gaussians=dict(blobs=4), frequencies=dict(frequencies=12), palette=dict(colour_bits=2), bases=dict(bases=6, scale=1),
             resolutions=dict(sharp=2, half=2, coarse=4), separable=dict(bases=6), spectral=dict(bases=6, side=5), hierarchy=dict(common=2, of_class=2, channels=4), hallucinators=dict(images=1, channels=2), warped=dict(pictures=1), warped_bases=dict(bases=4))


@pytest.mark.parametrize('name', kinds)
def test_every_kind_goes_through_all_doors(name, tmp_path, capsys):
    memory, said = through_all_doors(name, tmp_path, capsys, 'ipc=2', *(f'{k}={v}' for k, v in SMALL.get(name, {}).items()))
    assert memory.name == name and memory.floats <= 1280 and ('stands' in said or 'not compared' in said)


@pytest.mark.parametrize('name', kinds)
def test_every_kind_is_logged_described_and_bounded(name, tmp_path):
    ds = load_data('digits')
    begun = kinds[name].begin(4000, ds.shape, ds.classes, x=ds.x_train, y=ds.y_train)
    memory = distill(begun, ds.x_train, ds.y_train, MLP(ds.shape, 10, widths=(8,)), CSVLogger(tmp_path/'log', pictures=1), iterations=1, inner_steps=2, per_class=1)
    assert list((tmp_path/'log').rglob('*.png')) and list((tmp_path/'log').rglob('*.csv'))
    assert f'{memory.r} images' in model_card(memory)
    path = memory.save(tmp_path/'m.safetensors')
    need = 4*10*memory.r*64
    assert Memory.load(path, room=need).r == memory.r
    with pytest.raises(BadInput, match='GiB allowed'): Memory.load(path, room=need-1)


def test_a_fresh_process_knows_every_kind(tmp_path):
    "Without `remember_past.memories` having been imported"
    path = kinds['palette'].begin(2400, (1, 8, 8), [str(i) for i in range(10)]).save(tmp_path/'m.safetensors')
    code = f'from remember_past.all import Memory; print(Memory.load({str(path)!r}).name)'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip() == 'palette'
