"""Experiments as Ray tasks: a task's process is killed, and one of two nodes; the grid ends complete, as if nothing had happened.

Skipped where Ray is not installed (`pip install 'remember_past[cluster]'`), or where the machine is too busy for Ray to start.
"""
import os, signal, threading, time
from pathlib import Path
import pytest
pytest.importorskip('ray', reason="Ray is not installed: pip install 'remember_past[cluster]'")
from remember_past.errors import BadInput
from remember_past.lab import workers as W
from remember_past.lab.ray import make_on_ray
from remember_past.lab.runs import Run
from remember_past.lab.records import find_records
from remember_past.lab.settings import complete
from test_survive import SMALL, holders, memories, numbers, on_one_thread, one_thread, wait_for

LONG = SMALL | dict(iterations=150, inner_steps=8)


def experiments(): return [dict(settings=complete(**SMALL)), *(dict(settings=complete(**LONG, seed=s)) for s in (0, 1))]


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
    runs = tmp_path_factory.mktemp('undisturbed')
    with on_one_thread(): W.make_in_turn(experiments(), runs, out=open(os.devnull, 'w'))  # made before `one_thread` begins
    return memories(runs), numbers(find_records(runs))


def parent(pid): return int(Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[1])


def made_beside(enemy, runs, **how):
    "All experiments by Ray, while another thread does them harm"
    todo, failed = experiments(), []
    def harm():
        try: enemy()
        except Exception as e: failed.append(e)
    thread = threading.Thread(target=harm); thread.start()
    try: make_on_ray(todo, runs, out=open(os.devnull, 'w'), **how)
    except BadInput as e:
        assert 'no Ray cluster answers' in str(e) and '\n' not in str(e)
        pytest.skip(str(e))
    finally: thread.join()
    assert not failed, failed
    return [r['state'] for r in todo]


def long_ones(runs): return {Run(runs, 'cells', r['settings'], create=False).hash for r in experiments()[1:]}


def test_a_process_is_killed(tmp_path, undisturbed):
    killed = []
    def enemy():
        pid = wait_for(lambda: next((pid for run, pid in holders(tmp_path).items() if run in long_ones(tmp_path)), None), 200)
        os.kill(pid, signal.SIGKILL); killed.append(pid)
    assert made_beside(enemy, tmp_path, workers=2) == ['made']*3 and killed
    assert (memories(tmp_path), numbers(find_records(tmp_path))) == undisturbed


@pytest.mark.skipif(not Path('/proc/self/stat').exists(), reason='nodes are told apart by /proc')
def test_a_node_is_killed(tmp_path, undisturbed):
    "Two nodes on one machine, one core each; the second goes away in the middle of a long experiment"
    from ray.cluster_utils import Cluster
    cluster, worked = Cluster(), []
    try:
        try: second = [cluster.add_node(num_cpus=1) for _ in range(2)][1]
        except Exception as e: pytest.skip(f'Ray does not start two nodes here: {e}')
        raylet = second.all_processes['raylet'][0].process.pid
        def enemy():
            on_second = lambda: [run for run, pid in holders(tmp_path).items() if run in long_ones(tmp_path) and parent(pid) == raylet]
            worked.extend(wait_for(on_second, 200))
            cluster.remove_node(second, allow_graceful=False)
        assert made_beside(enemy, tmp_path, address=cluster.address) == ['made']*3 and worked
        assert (memories(tmp_path), numbers(find_records(tmp_path))) == undisturbed
    finally: cluster.shutdown()
