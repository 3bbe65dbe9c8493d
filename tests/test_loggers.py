"TensorBoard's own reader finds in the folder what the history says, and the how-to's loggers for other services do what they claim"
import json, subprocess, sys, types
from pathlib import Path
import numpy as np, pytest
from remember_past.all import ConvNet, Memory, distill, tiny
from remember_past.lab.commands import rp_distill
from remember_past.loggers import CSVLogger, Logger, TensorBoardLogger

top = Path(__file__).resolve().parents[1]
ds = tiny()
net, start = ConvNet(ds.shape, ds.n_classes, width=8, depth=1), Memory.addressed(2, 1, ds.shape, ds.classes, scale=1)
fast = dict(iterations=12, inner_steps=5, inner_lr=.1, outer='adam', outer_lr=.05)


def test_tensorboard(tmp_path):
    pytest.importorskip('tensorboard', reason="needs tensorboard, as pip install -e '.[log]' brings it")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    memory = distill(start, ds.x_train, ds.y_train, net, [TensorBoardLogger(tmp_path/'tb', pictures=5), CSVLogger(tmp_path/'csv', pictures=5)], **fast)
    read = EventAccumulator(str(tmp_path/'tb')).Reload()
    history = memory.meta['history']
    for k in ('loss', 'grad_norm'):
        points = read.Scalars(k)
        assert [p.step for p in points] == list(range(12))
        assert [p.value for p in points] == pytest.approx([h[k] for h in history], rel=1e-4)
    assert [i.step for i in read.Images('memory')] == [0, 5, 10, 11]
    pictures = sorted(p.name for p in (tmp_path/'csv').glob('*.png'))
    assert pictures == [f'memory-{i:06}.png' for i in (0, 5, 10, 11)]
    from PIL import Image
    import io
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(read.Images('memory')[0].encoded_image_string))), np.asarray(Image.open(tmp_path/'csv'/pictures[0])))


def test_without_tensorboard(tmp_path):
    "Who lacks the package is told which one"
    code = "import sys; sys.modules['tensorboard'] = None\nfrom remember_past.loggers import TensorBoardLogger\ntry: TensorBoardLogger('x')\nexcept ValueError as e: print(e)"
    said = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=tmp_path, check=True).stdout
    assert "pip install 'remember_past[log]'" in said


@pytest.mark.parametrize('service', ['wandb', 'mlflow'])
def test_ten_lines(service, monkeypatch, tmp_path):
    "The how-to's cell for a service runs as it stands; where the service is not installed, with a stand-in that has the functions which the cell calls"
    monkeypatch.chdir(tmp_path); monkeypatch.setenv('WANDB_MODE', 'offline'); monkeypatch.setenv('MLFLOW_TRACKING_URI', f'sqlite:///{tmp_path}/mlflow.db')
    try: __import__(service)
    except ImportError: pytest.skip(f'{service} is not installed: its cell was read, and not run')
    cells = [''.join(c['source']) for c in json.loads((top/'nbs/howto/watch_a_run.ipynb').read_text())['cells']]
    cell = next(c for c in cells if f'import {service}' in c).split('```python\n')[1].split('```')[0]
    assert len(cell.strip().splitlines()) <= 12
    exec(cell, dict(start=start, ds=ds, net=net, settings=fast, distill=distill, Logger=Logger))
    if service == 'wandb': assert list((tmp_path/'wandb').glob('offline-run-*/run-*.wandb')); return
    import mlflow
    run, = mlflow.MlflowClient().search_runs(['0'])
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, 'loss')
    assert [m.step for m in history] == list(range(12)) and run.data.params['inner_steps'] == '5'
    kept = {f.path for f in mlflow.MlflowClient().list_artifacts(run.info.run_id)}
    assert {'memory.safetensors', 'images'} <= kept, kept


SMALL = 'data=digits whiten=standardize scale=1 bases=6 width=4 depth=2 inner_steps=3 per_class=4 iterations=20 real_per_class=4 eval_nets=1 eval_epochs=1'.split()

@pytest.mark.parametrize('method', ['full', 'dm'])
def test_from_the_command_line(tmp_path, capsys, method):
    "`rp_distill --log` leaves a row for each iteration and ten pictures, of the paper's method and of a compared one; a reused result says that it logged nothing"
    words = [*SMALL, f'method={method}']
    rp_distill(words, out=str(tmp_path/'m.safetensors'), runs=str(tmp_path/'runs'), log=str(tmp_path/'log'))
    assert 'curve.csv and pictures of the memory' in capsys.readouterr().out
    rows = (tmp_path/'log'/'curve.csv').read_text().splitlines()
    assert rows[0].startswith('iteration,loss,grad_norm') and [int(r.split(',')[0]) for r in rows[1:]] == list(range(20))
    assert [p.name for p in sorted((tmp_path/'log').glob('memory-*.png'))] == [f'memory-{i:06}.png' for i in [*range(0, 20, 2), 19]]
    if 'tensorboard' in sys.modules: assert list((tmp_path/'log').glob('events.out.tfevents*'))
    rp_distill(words, out=str(tmp_path/'m.safetensors'), runs=str(tmp_path/'runs'), log=str(tmp_path/'again'))
    assert 'nothing was logged' in capsys.readouterr().out and not (tmp_path/'again').exists()
    with pytest.raises(SystemExit): rp_distill(words, out=str(tmp_path/'m.safetensors'), runs=str(tmp_path/'runs'), log=str(tmp_path/'m.safetensors'))
