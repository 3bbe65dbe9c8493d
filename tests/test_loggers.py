"TensorBoard's own reader finds in the folder what the history says, and the how-to's loggers for other services do what they claim"
import json, subprocess, sys, types
from pathlib import Path
import numpy as np, pytest
from remember_past.all import ConvNet, Memory, distill, tiny
from remember_past.loggers import CSVLogger, TensorBoardLogger

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
    exec(cell, dict(start=start, ds=ds, net=net, settings=fast, distill=distill))
