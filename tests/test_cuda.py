"On a CUDA device: every method of every table there and on the CPU, from the same seeds; checkpoints that change device; captured graphs"
from pathlib import Path
import pytest, torch
from safetensors.torch import load_file
from remember_past.bptt import unroll
from remember_past.engine.cuda import captured
from remember_past.continual.nets import ConvNets, first_weights, stream_net
from remember_past.lab.settings import complete
from remember_past.lab.stream_setup import make_learner, make_streams, passes
from remember_past.continual.methods import STREAM_LEARNERS
from remember_past.lab.experiments import kind_of, run_of
from remember_past.nets import ConvNet, MLP
from remember_past.initial_weights import fresh_params
from remember_past.lab.params import experiments_of
from remember_past.engine.choose import KERNELS, steps_for

if not torch.cuda.is_available(): pytest.skip('no CUDA device here', allow_module_level=True)
HERE = Path(__file__).resolve().parents[1]
FEW = dict(iterations=2, eval_nets=1, eval_epochs=2, eval_steps=2, pre_epochs=1, episodes=4, combinations=2, net_epochs=1, expert_epochs=1, experts=1, trajectory=2, starts=1, inner_steps=3, nets=2, inits=1)


@pytest.fixture(autouse=True)
def no_tf32(monkeypatch):
    "PyTorch rounds what convolutions multiply to 10 bits on a card; Adam turns a sign that flips into a whole step"
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)


def methods():
    "One quick experiment of each method, cut to a few steps"
    found = {}
    for table in 'table1', 'table2', 'extrapolation', 'table4':
        for c in experiments_of(HERE, 'quick', table): found.setdefault((kind_of(c).name, c['method']), c)
    return [pytest.param(c | {k: v for k, v in FEW.items() if k in c and c[k]}, id='-'.join(k)) for k, c in found.items()]


def rel(a, b): return float((a.double().cpu() - b.double().cpu()).norm()/b.double().cpu().norm().clamp(min=1e-12))


@pytest.mark.parametrize('settings', methods())
def test_method(settings, tmp_path):
    "The memory, or the accuracies, of a CPU"
    kind = kind_of(settings)
    settings = kind.settings(**settings)
    made = {d: (kind.run(settings, tmp_path/d, d), run_of(tmp_path/d, settings, False).folder) for d in ('cpu', 'cuda')}
    a, b = made['cuda'][0], made['cpu'][0]
    assert a['device'] == torch.cuda.get_device_name() and a['settings'] == b['settings']
    for f in made['cpu'][1].glob('*.safetensors'):
        there, here = load_file(made['cuda'][1]/f.name), load_file(f)
        assert there.keys() == here.keys() and all(rel(there[k], here[k]) < .05 for k in here), {k: rel(there[k], here[k]) for k in here}
    assert abs(a['mean'] - b['mean']) < 15, (a['mean'], b['mean'])  # few and hardly trained networks


def small_stream(method, **changes):
    "Two tasks of digits"
    split = dict(benchmark='cifar100', net='pc_cnn', width=4, per_task=40)
    kind = split if changes.pop('conv', False) else dict(benchmark='rotations', width=16, per_task=60)
    own = STREAM_LEARNERS[method].settings
    few = {k: v for k, v in dict(length=6, warm=3, inits=3, outer_steps=1, epochs=1, s=2, k=2, frequencies=16, core=10, inner_steps=5, test_steps=5).items() if k in own}
    if 'support' in own: few |= dict(bases=2 if 'net' in kind else 10, rows=0, support=0)
    return complete(kind='continual', method=method, data='digits', tasks=2, seeds=2, **kind, **few | changes)


@pytest.mark.parametrize('conv', [False, True], ids=['mlp', 'conv'])
@pytest.mark.parametrize('method', STREAM_LEARNERS)
def test_learner(method, conv):
    "The weights, or what is distilled, of a CPU"
    if conv and method in ('stable_sgd', 'kcl'): pytest.skip('a learner for perceptrons')
    settings, ends = small_stream(method, conv=conv), {}
    for device in 'cpu', 'cuda':
        streams = make_streams(settings); learner = make_learner(settings, streams, device)
        for t in range(2): passes(learner, streams, t)
        ends[device] = learner.w if learner.w.numel() else torch.cat([v[0].flatten() for v in learner.done])
        x = torch.stack([s.test(1)[0] for s in streams])
        assert ends[device].device.type == device and learner.predict(x.to(device), 1).shape == x.shape[:2]
    assert ends['cpu'].isfinite().all() and rel(ends['cuda'], ends['cpu']) < .05, rel(ends['cuda'], ends['cpu'])


@pytest.mark.parametrize('conv, method', [(True, 'lamaml'), (False, 'gem'), (False, 'kcl'), (True, 'ours'), (False, 'ours')])
def test_a_checkpoint_changes_device(conv, method):
    "One task on the card, the next on the CPU, and the other way round"
    settings, ends = small_stream(method, conv=conv), []
    for first, then in ('cpu', 'cuda'), ('cuda', 'cpu'):
        streams = make_streams(settings); learner = make_learner(settings, streams, first)
        passes(learner, streams, 0)
        other = make_learner(settings, streams, then); other.load_state(learner.state())
        passes(other, streams, 1)
        ends.append(other.w if other.w.numel() else torch.cat([v[0].flatten() for v in other.done]))
        assert ends[-1].device.type == then
    assert rel(*ends) < .05


def test_captured_is_the_function():
    "Replayed with other numbers, other shapes and None; what it returned before stays"
    calls = []
    def f(a, b, n): calls.append(1); return (a @ a*n if b is None else a @ b, a.sum())
    g, gen = captured(f), torch.Generator('cuda').manual_seed(0)
    a, b = (torch.rand(4, 4, generator=gen, device='cuda') for _ in range(2))
    one = g(a, b, 2); two = g(b, a, 2)
    for got, want in (one, f(a, b, 2)), (two, f(b, a, 2)), (g(a, None, 3), f(a, None, 3)), (g(a[:2], b, 2), f(a[:2], b, 2)):
        for u, v in zip(got, want): assert torch.allclose(u, v)
    n = len(calls); g(a, b, 2); assert len(calls) == n


@pytest.mark.parametrize('net', [ConvNet((3, 16, 16), 4, width=8, depth=2), MLP((3, 16, 16), 4), stream_net((3, 16, 16), 4, 'pc_cnn', 8)], ids=['convnet', 'mlp', 'plain'])
def test_steps_are_those_of_the_general_kernel(net):
    "Whatever is chosen on a card: loss, gradients, their derivatives and logits, twice, with other numbers"
    chosen, general = steps_for(net, device='cuda'), KERNELS[-1].make(net)
    for seed in range(2):
        gen = torch.Generator().manual_seed(seed); w, v = torch.randn(2, general.flat.size, generator=gen)*.1
        x, y = torch.randn(8, 3, 16, 16, generator=gen), torch.randn(8, 4, generator=gen).softmax(1)
        cuda = [t.cuda() for t in (w, x, y, v)]
        mine = [t.cpu() for t in chosen.grad(*cuda[:3], want_x=True)]  # at once: the next compiled call may write over them
        mine += [t.cpu() for t in chosen.hvp(*cuda, soft=True)] + [chosen.logits(*cuda[:2]).cpu()]
        for a, b in zip(mine, (*general.grad(w, x, y, want_x=True), *general.hvp(w, x, y, v, soft=True), general.logits(w, x))): assert rel(a, b) < 1e-3


def test_meta_is_that_of_the_cpu():
    "La-MAML's derivatives at some width, captured"
    form = stream_net((3, 32, 32), 100, 'pc_cnn', 32); gen = torch.Generator().manual_seed(0)
    closed = torch.ones(1, 2, 100, dtype=torch.bool); closed[0, 0, :5] = closed[0, 1, 5:10] = False
    w = first_weights(form, [0], 'kaiming'); x, y = torch.rand(1, 10, 3, 32, 32, generator=gen), torch.randint(5, (1, 10), generator=gen)
    kept, said = (x.flip(1), y + 5, torch.ones_like(y)), {}
    for d in 'cpu', 'cuda':
        nets = ConvNets(form, closed.to(d)); args = (w.to(d), torch.full_like(w, .1).to(d), x.to(d), y.to(d), 0, tuple(k.to(d) for k in kept), 5, 1.)
        said[d] = [nets.meta(*args) for _ in range(2)][1]
    for a, b in zip(said['cuda'], said['cpu']): assert rel(a, b) < 1e-3


def test_single_samples_are_those_of_the_cpu():
    "Lists of MER's steps, captured: twice in the same places, then a shorter one"
    form = stream_net((3, 32, 32), 10, 'pc_cnn', 32); gen = torch.Generator().manual_seed(0)
    x, y = torch.rand(1, 12, 3, 32, 32, generator=gen), torch.randint(10, (1, 12), generator=gen)
    said = {}
    for d in 'cpu', 'cuda':
        nets, w = ConvNets(form), first_weights(form, [0], 'kaiming').to(d)
        for k, lists in (12, 2), (12, 2), (4, 1): nets.sgd_by_sample(w, x[:, :k].to(d), y[:, :k].to(d), .05, 0, .5, lists, clip=1.)
        said[d] = w
    assert rel(said['cuda'], said['cpu']) < 1e-3


@pytest.mark.parametrize('net', [ConvNet((3, 16, 16), 4, width=8, depth=2), MLP((3, 16, 16), 4), stream_net((3, 16, 16), 4, 'pc_cnn', 8)], ids=['convnet', 'mlp', 'plain'])
@pytest.mark.parametrize('host, every', [(False, 1), (True, 1), (False, 4)])
def test_unroll(net, host, every):
    "The meta-gradient of a CPU; weights kept on the card, in pinned memory, or recomputed"
    got = {}
    for d in 'cpu', 'cuda':
        gen, steps = torch.Generator().manual_seed(0), steps_for(net, device=d)
        X, real = (torch.randn(8, 3, 16, 16, generator=gen).to(d) for _ in range(2))
        y = (torch.arange(8) % 4).to(d); X.requires_grad_()
        w = unroll(steps, steps.flat.flatten(fresh_params(net, 0)).to(d), X, y, torch.arange(8).expand(8, -1).to(d), .05, .9, host=host, every=every)
        loss = torch.nn.functional.cross_entropy(torch.func.functional_call(net, {k: v for k, v in steps.flat.unflatten(w).items()}, (real,)), y)
        got[d], = torch.autograd.grad(loss, X)
    assert rel(got['cuda'], got['cpu']) < .02, rel(got['cuda'], got['cpu'])
