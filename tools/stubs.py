"""What type checkers read in the wheel: a .pyi for each module, in which the methods that fastcore's `@patch` adds stand inside their classes"""
import ast, copy, re, sys
from pathlib import Path

ANY = ast.Name('Any')
HEAD = 'from __future__ import annotations\nfrom collections.abc import Callable\nfrom typing import Any\n'


def patch_of(f):
    "How a function is patched into a class: the text of its decorator, or '' for one that isn't"
    return next((ast.unparse(d) for d in getattr(f, 'decorator_list', ()) if ast.unparse(d).split('(')[0] == 'patch'), '')


def classes_of(f):
    "The classes that a patched function belongs to"
    return re.findall(r'\w+', ast.unparse(f.args.args[0].annotation))


def typed(annotation, default=None):
    "An annotation as a type; anything goes where there is none, and where it is no type"
    if annotation is None or isinstance(annotation, ast.Call): return ANY
    text = re.sub(r'\bcallable\b', 'Callable[..., Any]', ast.unparse(annotation))
    none = isinstance(default, ast.Constant) and default.value is None and text not in ('Any', 'None')
    return ast.parse(f'{text} | None' if none else text, mode='eval').body


def guessed(value, known):
    "The type of a value, from how it is written"
    if isinstance(value, ast.Name): return known.get(value.id, ANY)
    if isinstance(value, ast.Constant) and value.value is not None: return ast.Name(type(value.value).__name__)
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in ('dict', 'list', 'set', 'tuple', 'int', 'float', 'str', 'bool', 'Path'):
        return ast.Name(value.func.id)
    kinds = {ast.Dict: 'dict', ast.DictComp: 'dict', ast.List: 'list', ast.ListComp: 'list', ast.Tuple: 'tuple', ast.Set: 'set', ast.JoinedStr: 'str'}
    return ast.Name(kinds[type(value)]) if type(value) in kinds else ANY


def signature(f, how=None):
    "A function without its body; `how` says how it was patched into a class"
    f, a = copy.deepcopy(f), f.args
    if how is not None: f.decorator_list = [ast.Name(k) for k, word in (('property', 'as_prop=True'), ('classmethod', 'cls_method=True')) if word in how]
    else: f.decorator_list = [d for d in f.decorator_list if ast.unparse(d).split('.')[-1] in ('property', 'classmethod', 'staticmethod', 'contextmanager')]
    args = [*a.posonlyargs, *a.args]
    defaults = dict(zip([x.arg for x in args[::-1]], a.defaults[::-1])) | {x.arg: d for x, d in zip(a.kwonlyargs, a.kw_defaults) if d}
    for x in [*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs]:
        x.annotation = None if x.arg in ('self', 'cls') else typed(x.annotation, defaults.get(x.arg))
    f.args.defaults, f.args.kw_defaults = [ast.Constant(...)]*len(a.defaults), [d and ast.Constant(...) for d in a.kw_defaults]
    procedure = f.returns is None and not any(isinstance(n, ast.Return) and n.value or isinstance(n, (ast.Yield, ast.YieldFrom)) for n in ast.walk(f))
    raises = isinstance(f.body[-1], ast.Raise)
    f.returns, f.body = ast.Constant(None) if procedure and not raises else typed(f.returns), [ast.Expr(ast.Constant(...))]
    return f


def attributes(methods):
    "What methods keep in `self`, by name"
    found = {}
    for f in methods:
        args = [*f.args.args[1:], *f.args.kwonlyargs]
        defaults = dict(zip([a.arg for a in args[::-1]], f.args.defaults[::-1]))
        known = {a.arg: typed(a.annotation, defaults.get(a.arg)) for a in args}
        for n in ast.walk(f):
            if isinstance(n, ast.Call) and ast.unparse(n.func) == 'store_attr': found = known | found
            if not isinstance(n, ast.Assign): continue
            for target in n.targets:
                parts = target.elts if isinstance(target, ast.Tuple) else [target]
                values = n.value.elts if isinstance(n.value, ast.Tuple) and len(n.value.elts) == len(parts) else [n.value if len(parts) == 1 else None]*len(parts)
                for t, v in zip(parts, values):
                    if isinstance(t, ast.Attribute) and ast.unparse(t.value) == 'self': found.setdefault(t.attr, guessed(v, known))
    return found


def fields(node, known=()):
    "An assignment as declarations"
    targets = node.targets[0].elts if isinstance(node.targets[0], ast.Tuple) else node.targets
    values = node.value.elts if isinstance(node.value, ast.Tuple) and len(targets) > 1 else [node.value]*len(targets)
    return [ast.AnnAssign(t, guessed(v, dict(known)), None, 1) for t, v in zip(targets, values) if isinstance(t, ast.Name)]


def shown_class(node, patches):
    "A class with its methods, those that were patched in, and what they keep in `self`"
    body, methods = [], [f for f in node.body if isinstance(f, ast.FunctionDef)]
    for n in node.body:
        if isinstance(n, ast.FunctionDef): body.append(signature(n))
        if isinstance(n, ast.Assign): body += fields(n)
        if isinstance(n, ast.AnnAssign): body.append(ast.AnnAssign(n.target, typed(n.annotation, n.value), n.value and ast.Constant(...), 1))
        if isinstance(n, ast.ClassDef): body.append(shown_class(n, []))
    body += [signature(f, how) for f, how in patches]
    there = {n.name for n in body if hasattr(n, 'name')} | {n.target.id for n in body if isinstance(n, ast.AnnAssign)}
    kept = [ast.AnnAssign(ast.Name(k), t, None, 1) for k, t in attributes([*methods, *(f for f, _ in patches)]).items() if k not in there]
    decorators = [d for d in node.decorator_list if 'dataclass' in ast.unparse(d)]
    return ast.ClassDef(node.name, node.bases, [], kept + body or [ast.Expr(ast.Constant(...))], decorators, **({'type_params': []} if sys.version_info >= (3, 12) else {}))


def stub(package, module, tree, patched):
    "The text of a module's .pyi"
    def level(n, of): # an import that another module makes, as this one has to write it
        if not (isinstance(n, ast.ImportFrom) and n.level): return n
        where = [package.name, *of.relative_to(package).parts[:-1]]
        where = where[:len(where) - n.level + 1]
        return ast.ImportFrom('.'.join(where + ([n.module] if n.module else [])), n.names, 0)
    body, foreign = [], {}
    for n in tree.body:
        if isinstance(n, ast.ImportFrom) and n.level: body.append(ast.ImportFrom(n.module, [ast.alias(a.name, None if a.name == '*' else a.asname or a.name) for a in n.names], n.level))  # found here, too
        elif isinstance(n, (ast.Import, ast.ImportFrom)): body.append(n)
        elif isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == '__all__': body.append(n)
        elif isinstance(n, ast.Assign): body += fields(n)
        elif isinstance(n, ast.FunctionDef) and not patch_of(n): body.append(signature(n))
        elif isinstance(n, ast.ClassDef):
            mine = patched.get(n.name, [])
            body.append(shown_class(n, [(f, how) for _, f, how in mine]))
            foreign |= {p: None for p, *_ in mine if p != module}
    more = [level(n, p) for p in foreign for n in PARSED[p].body if isinstance(n, (ast.Import, ast.ImportFrom))]
    me = '.'.join([package.name, *module.relative_to(package).with_suffix('').parts])
    more = [n for n in more if getattr(n, 'module', '') != me]
    return HEAD + '\n'.join(ast.unparse(ast.fix_missing_locations(n)) for n in [*more, *body]) + '\n'


PARSED = {}

def write_stubs(package):
    "Write a .pyi beside each module of a package"
    package = Path(package)
    PARSED.update({p: ast.parse(p.read_text(encoding='utf-8')) for p in sorted(package.rglob('*.py')) if p.name != '_modidx.py'})
    patched = {}
    for p, tree in PARSED.items():
        for f in tree.body:
            if how := patch_of(f):
                for name in classes_of(f): patched.setdefault(name, []).append((p, f, how))
    for p, tree in PARSED.items(): p.with_suffix('.pyi').write_text(stub(package, p, tree, patched), encoding='utf-8')


if __name__ == '__main__': write_stubs(sys.argv[1])
