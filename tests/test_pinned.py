"What a change of the house must leave alone: names, hashes and numbers of all committed records, the keys of chance, the C++ source, small memories"
import hashlib, json
from pathlib import Path
import pytest
from remember_past.engine.native import SOURCE
from remember_past.lab.settings import complete
from remember_past.lab.distillation import run_distillation
from remember_past.lab.experiments import kind_of
from remember_past.memory import Memory
from remember_past.lab.records import find_records
from remember_past.hashes import settings_hash
from remember_past.train import draw_seed, generator

HERE = Path(__file__).resolve().parents[1]
PINNED = json.loads((HERE/'tests'/'pinned.json').read_text())
TINY = dict(data='digits', whiten='standardize', scale=1, bases=6, width=4, depth=2, inner_steps=4, inner_lr=.1, per_class=4, outer='adam', outer_lr=.02,
            real_per_class=8, iterations=12, eval_nets=2, eval_epochs=5, eval_lr=.1)
FIVE = dict(
    full=TINY, bptt_ds=dict(TINY, method='bptt_ds', inits=2, augment='flip_rotate'), mlp=dict(TINY, net='mlp', decay=True, window=3, random_end=True),
    dsa=dict(data='digits', method='dsa', width=8, depth=2, whiten='zca', zca_reg=.1, iterations=5, real_per_class=16, augment='crop_scale', eval_nets=1, eval_epochs=5, eval_lr=.1),
    kip=dict(data='digits', method='kip', width=8, depth=2, whiten='standardize', iterations=5, real_per_class=20, eval_nets=1, eval_epochs=5, eval_lr=.1))


def committed(): return {f'{r["path"].split("/")[-3]}/{Path(r["path"]).stem}': r for p in ('small', 'paper', 'bench') for r in find_records(HERE/'figures'/p/'records')}


def test_every_record_keeps_its_name_and_its_numbers():
    "`find_records` checks each checksum; the name of the file, the experiment and the hash are the pinned ones"
    now = {k: [r['experiment'], r['run'], r['checksum'][:16]] for k, r in committed().items()}
    assert {k: now.get(k) for k in PINNED['records']} == PINNED['records']


def test_settings_of_every_record_still_make_its_hash():
    "Today's defaults and checks give back the very settings that a run from long ago was named by"
    for k, r in committed().items():
        if r['experiment'] == 'bench': continue
        assert settings_hash(r['settings']) == r['run'], k
        assert settings_hash(kind_of(r['settings']).settings(**r['settings'])) == r['run'], k


def test_the_keys_of_chance():
    for place, seed in PINNED['seeds'].items(): assert draw_seed(generator(*json.loads(place))) == seed, place


def test_the_source_of_the_compiled_steps():
    assert hashlib.sha256('\n'.join(SOURCE.values()).encode()).hexdigest() == PINNED['source']


@pytest.mark.parametrize('name', FIVE)
def test_small_memories(name, tmp_path):
    "Bits differ between processors, so a thousandth is allowed; a changed order of draws or sums would be far outside"
    r = run_distillation(complete(**FIVE[name]), tmp_path)
    memory = Memory.load(tmp_path/'cells'/r['run']/'memory.safetensors')
    assert r['run'] == PINNED['memories'][name]['run']
    assert [float(p.double().square().mean()) for p in memory.parameters()] == pytest.approx(PINNED['memories'][name]['mean_square'], rel=1e-3)
