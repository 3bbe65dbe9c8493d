"The compared methods from the command line, and the promises between tables: records keep their names, Table 1 has the K that Figure 4 chose"
import csv
from pathlib import Path
import pytest
from remember_past.lab.commands import rp_distill
from remember_past.lab.params import PROFILES, experiments_of, names_at
from remember_past.lab.publish import catalogue, gallery
from remember_past.lab.results import memory_path
from remember_past.baselines.methods import LEARNERS, PROTOCOLS
from remember_past.lab.settings import complete, DEFAULTS
from remember_past.lab.learning import learning
from remember_past.lab.distillation import run_distillation
from remember_past.lab.records import find_records
from remember_past.hashes import settings_hash
from remember_past.lab.verify import check_files

HERE = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize('method, bad, says', [
    *[(m, 'iterations=-1', 'iterations') for m in LEARNERS],
    *[(m, 'outer_lr=fast', 'number') for m in LEARNERS if m not in ('herding', 'k_centre')],
    ('dc', 'net_epochs=1.5', 'net_epochs'), ('dc', 'image_step=2', 'did you mean image_steps?'), ('dsa', 'augment=crop_flop', 'flip'), ('dm', 'real_per_class=0', 'real_per_class'),
    ('cafe', 'watch=0', 'watch'), ('tm', 'experts=0', 'experts'), ('kip', 'kernel=convnet', 'conv'), ('kip_conv', 'nets=0', 'nets'), ('k_centre', 'net_batch=0', 'net_batch'),
    ('dsa', 'protocol=cd', 'dc'), ('kip', 'eval_net=widnet', 'widenet'), ('dm', 'eval_schedule=steps', 'drop'), ('dc', 'eval_augment=turn', 'rotate'),
])
def test_bad_input(method, bad, says, tmp_path, monkeypatch, capsys):
    "Exit 2 and one sentence that names the setting, before anything is written"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as e: rp_distill(['data=digits', f'method={method}', bad])
    out, err = capsys.readouterr()
    assert e.value.code == 2 and out == '' and err.count('\n') == 1 and says in err and 'Traceback' not in err
    assert not list(tmp_path.iterdir())


def test_committed_records_are_found():
    "A setting that is new today is not in the hash of a record from yesterday"
    records = find_records([HERE/'figures'/p/'records' for p in PROFILES], 'cells')
    assert records
    for r in records: assert settings_hash(complete(**r['settings'])) == r['run'], r['path']
    listed = {settings_hash(c) for p in ('small', 'paper') for t in names_at(HERE, p) if t != 'cost' for c in experiments_of(HERE, p, t)}
    lost = [r['path'] for r in records if r['run'] not in listed]
    assert not lost, f'no parameter file asks for {lost}'


def test_committed_memories_are_beside_their_records():
    "What `rp_verify` checks first, for every record of a distillation that is published; the memories are the gallery, whole, in 12 MB"
    records = find_records([HERE/'figures'/p/'records' for p in PROFILES], 'cells')
    for r in records: check_files(r)
    ours = {(r['settings']['data'], r['settings']['ipc']) for r in records if r['settings']['method'] == 'full' and 4*r['floats'] <= 1.4*10**6}  # an eighth of the gallery
    files = {p.stem: p for profile in PROFILES for p in (HERE/'figures'/profile/'memories').glob('*.safetensors')}
    kept = [r for r in records if memory_path(r)]
    assert {n for p in ('small', 'paper') for n in gallery(HERE, p)} == set(files) and sum(p.stat().st_size for p in files.values()) <= 12*10**6
    assert ours <= {(r['settings']['data'], r['settings']['ipc']) for r in kept if r['settings']['method'] == 'full' or r['settings'].get('start') == 'real'}, 'each row of ours whose memory is small enough has it'


@pytest.mark.parametrize('profile', ['small', 'paper'])
def test_the_list_of_memories_is_that_of_the_records(profile):
    made = HERE/'figures'/profile/'memories'/'README.md'
    assert (made.read_text() if made.exists() else '') == catalogue(HERE, profile)


def test_settings_are_a_fixed_point():
    for m in LEARNERS:
        for p in PROTOCOLS:
            o = complete(method=m, data='mnist', protocol=p)
            assert complete(**o) == o
            assert learning(o) == learning(complete(method=m, data='mnist')) and (p == 'paper') == (set(o) == set(complete(method=m, data='mnist')))
    assert set(complete()) == set(DEFAULTS)


@pytest.mark.parametrize('profile', ['quick', 'small'])
def test_table1_has_the_bases_that_figure4_chose(profile):
    "Budgets of which every point has been made: the best K on validation images is Table 1's"
    made = next((f for f in (HERE/folder/'figures'/profile/'figure4.csv' for folder in ('runs', '.')) if f.exists()), None)
    if made is None: pytest.skip(f'figure 4 has not been made at profile {profile}')
    budgets, column = {}, 'validation accuracy, %'
    for row in csv.DictReader(made.open()): budgets.setdefault((row['data set'], int(row['images per class'])), []).append(row)
    ours = {(c['data'], c['ipc']): c['bases'] for c in experiments_of(HERE, profile, 'table1') if c['method'] == 'full'}
    whole = {b: rows for b, rows in budgets.items() if b in ours and all(r[column][:1].isdigit() for r in rows)}
    if not whole: pytest.skip(f'no budget of figure 4 is complete at profile {profile}')
    best = {b: int(max(rows, key=lambda r: float(r[column].split()[0]))['K']) for b, rows in whole.items()}
    assert {b: ours[b] for b in best} == best

def test_experts_outlive_an_interruption(tmp_path):
    "A cell of TM that is stopped leaves its experts behind; going on trains none of them again"
    s = dict(data='digits', method='tm', ipc=1, width=4, depth=2, whiten='standardize', iterations=4, inner_steps=2, experts=1, trajectory=2, expert_epochs=1, starts=1, augment='', student_batch=10, outer_lr=1., eval_nets=1, eval_epochs=1)
    def stop(p): raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): run_distillation(complete(**s), tmp_path, progress=stop)
    files = list((tmp_path/'experts').rglob('*.safetensors')); assert len(files) == 1
    before = files[0].stat().st_mtime_ns
    run_distillation(complete(**s), tmp_path); run_distillation(complete(**s, eval_momentum=0.8), tmp_path)
    assert [*(tmp_path/'experts').rglob('*.safetensors')] == files and files[0].stat().st_mtime_ns == before
