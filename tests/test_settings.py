"One schema for the settings of all experiments: they are completed and checked at the door, explained from the same lines, and not checked again inside"
import json, math, re
from pathlib import Path
import pytest
from remember_past.budget import smaller
from remember_past.errors import BadInput
from remember_past.lab.experiments import kind_named, kind_of
from remember_past.lab.settings import complete, schema_named
from remember_past.lab.all_settings import settings_help

HERE = Path(__file__).resolve().parents[1]
KINDS = 'distillation', 'extrapolation', 'images', 'continual'


@pytest.mark.parametrize('kind', KINDS)
def test_help_lists_every_setting(kind):
    said = settings_help(kind)
    for name in schema_named(kind).defaults: assert re.search(rf'^  {name}=', said, re.M), name
    assert max(map(len, said.split('\n'))) < 160


@pytest.mark.parametrize('kind', KINDS)
def test_complete_settings_are_a_fixed_point(kind):
    "And stay so on their way through JSON, as in a record"
    schema = schema_named(kind)
    for method in schema.about['method'].names:
        o = schema(method=method)
        assert complete(**o) == o and complete(**json.loads(json.dumps(o))) == json.loads(json.dumps(o))
        assert kind_of(o).settings is schema


@pytest.mark.parametrize('kind', KINDS)
def test_no_value_of_a_wrong_type_gets_in(kind):
    "Every setting refuses something, in one sentence that names it or what it stands for"
    schema = schema_named(kind)
    for name, setting in schema.about.items():
        if name not in schema.defaults or setting.takes.startswith(('a name', 'mlp')): continue
        method = next((m for m, own in schema.own.items() if name in own and name not in schema.base), schema.base['method'])
        with pytest.raises(BadInput) as e: schema(**{'method': method, name: ['?']})
        assert name in str(e.value) or setting.noun in str(e.value), name


def test_nobody_checks_again_inside():
    "The modules that run an experiment take complete settings; only doors call `complete`"
    for module in 'distillation', 'extrapolation', 'episodes', 'continual':
        assert not re.search(r'\bcomplete\(|schema_named', (HERE/'remember_past'/'lab'/f'{module}.py').read_text()), module


def test_kinds_are_found_by_their_folder():
    assert [kind_named(n).name for n in ('cells', 'extrapolation', 'images', 'continual')] == ['cells', 'extrapolation', 'images', 'continual']
    with pytest.raises(BadInput, match='did you mean continual'): kind_named('continuall')


@pytest.mark.parametrize('wrong', [dict(method='dsa', net_lr=-1.), dict(method='dsa', net_lr=math.inf), dict(method='tm', lr_lr=math.nan),
                                   dict(method='kip', ridge=-5.)], ids=str)
def test_rates_are_finite_and_positive(wrong):
    with pytest.raises(BadInput, match='give a number'): complete(**wrong)


@pytest.mark.parametrize('scale', [0, -2])
def test_a_scale_that_is_none(scale):
    with pytest.raises(BadInput): smaller((1, 28, 28), scale)
