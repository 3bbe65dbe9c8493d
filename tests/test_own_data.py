"Commands on data of one's own: a result belongs to what a file holds, and a dry run leaves nothing behind"
import json, os, subprocess, sys
import numpy as np, pytest
from remember_past.data.load import load_data
from remember_past.errors import BadInput
from remember_past.lab.commands import rp_distill
from remember_past.lab.settings import complete
from remember_past.memory import Memory

TINY = 'ipc=1 bases=2 scale=1 whiten=standardize width=4 depth=1 inner_steps=3 inner_lr=.1 per_class=2 real_per_class=4 outer=adam iterations=3 eval_nets=2 eval_epochs=2 eval_lr=.1'.split()


def arrays(turn=0):
    "Three classes of 8x8 blobs; `turn` shifts the labels and inverts the images"
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = (rng.random((3, 8, 8))[y]*.7 + .3*rng.random((60, 8, 8))).astype(np.float32)
    x, y = (1 - x, (y + 1) % 3) if turn else (x, y)
    return dict(x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])


def test_content_decides(tmp_path, capsys):
    "Other images under the same name are another run; the same once more is read, and the line says so; --fresh makes it again"
    file, out = tmp_path/'own.npz', tmp_path/'m.safetensors'
    def go(**more):
        rp_distill([f'data={file}', *TINY], out=str(out), runs=str(tmp_path/'runs'), **more)
        return capsys.readouterr().out, Memory.load(out)
    np.savez(file, **arrays()); first, a = go()
    np.savez(file, **arrays()); again, b = go()             # written anew, the content is the same
    np.savez(file, **arrays(1)); other, c = go()
    assert 'made' not in first and '--fresh makes it again' in again and 'made' not in other
    assert (a.bases == b.bases).all() and (a.bases != c.bases).any()
    assert len(list((tmp_path/'runs'/'cells').iterdir())) == 2
    fresh, d = go(fresh=True)
    assert 'made' not in fresh and (c.bases == d.bases).all()


def test_a_moved_file_is_not_learned_again(tmp_path, capsys):
    np.savez(tmp_path/'a.npz', **arrays()); np.savez(tmp_path/'b.npz', **arrays())
    for name in 'ab': rp_distill([f'data={tmp_path/name}.npz', *TINY], out=str(tmp_path/'m.safetensors'), runs=str(tmp_path/'runs'))
    records = [json.loads(p.read_text()) for p in (tmp_path/'runs').glob('cells/*/record.json')]
    assert sorted(bool(r.get('memory_of')) for r in records) == [False, True]


def test_content_is_a_setting_of_own_data_only(tmp_path):
    assert 'content' not in complete(data='digits')
    np.savez(tmp_path/'a.npz', **arrays())
    assert len(complete(data=str(tmp_path/'a.npz'))['content']) == 16


@pytest.mark.parametrize('data', ['mnist', 'cifar10'])
def test_dry_run_downloads_nothing(tmp_path, data):
    "Nothing is fetched, and no folder made, where the data set isn't there"
    env = os.environ | dict(REMEMBER_PAST_DATA=str(tmp_path/'data'), HOME=str(tmp_path))
    code = f"from remember_past.lab.commands import rp_distill; rp_distill(['data={data}'], dry_run=True)"
    got = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert got.returncode == 0 and f'rp_data {data} fetches it' in got.stdout, got.stderr
    assert not (tmp_path/'data').exists() and not (tmp_path/'runs').exists()


def test_total_of_a_dry_run():
    "The last line adds up what each run is predicted to take, and says so where something is not known"
    import re
    from remember_past.lab.reproduce import _announce
    own = dict(data='digits', whiten='standardize', bases=6, scale=1, width=4, depth=2, inner_steps=4, per_class=4, iterations=4000, eval_nets=2, eval_epochs=5)
    missing = lambda **k: dict(settings=complete(**own | k), record=None, state='missing')
    said = []
    _announce([missing(), missing(seed=1)], said.append, device='cpu')
    each = [float(re.search(r'about ([\d.]+) minutes', s)[1]) for s in said[:2]]
    assert abs(float(re.search(r'about ([\d.]+) minutes in all', said[2])[1]) - sum(each)) < .11 and len({*said}) == 3
    _announce([missing(), missing(method='dm')], said.append, device='cpu')
    assert '(1 of 2)' in said[-1]


def test_a_result_says_what_it_was_made_from(tmp_path, capsys):
    "Labels from 1 and no test set: the line says so, and size= belongs to the settings"
    a = arrays(); np.savez(tmp_path/'a.npz', x_train=a['x_train'], y_train=a['y_train'] + 1)
    rp_distill([f'data={tmp_path}/a.npz', *TINY], out=str(tmp_path/'m.safetensors'), runs=str(tmp_path/'runs'))
    said = capsys.readouterr().out
    assert 'labels begin at 1' in said and 'a fifth of each class is set aside' in said and Memory.load(tmp_path/'m.safetensors').classes == ['1', '2', '3']
    assert 'size' not in complete(data=str(tmp_path/'a.npz')) and complete(data=str(tmp_path/'a.npz'), size=8)['size'] == 8


def test_images_of_mixed_layout():
    with pytest.raises(BadInput, match='mixes channels first and channels last'):
        load_data([(np.zeros((8, 8, 3), np.uint8), 0), (np.zeros((3, 8, 8), np.uint8), 1)]*20)
