"Memories on a Hub, through the real library: a small Hub on this machine keeps repositories in memory, and we push, pull, are refused and go offline"
import base64, hashlib, json, re, subprocess, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
import pytest, torch

hub = pytest.importorskip('huggingface_hub', reason="needs huggingface_hub, as pip install -e '.[hub]' brings it")
from remember_past.all import Memory
from remember_past.data.whiten import Standardize
from remember_past.errors import BadInput


class Hub(BaseHTTPRequestHandler):
    "As much of a Hub's interface as the library uses for small files; `repos` maps a name to commits, and a commit maps paths to bytes"
    repos, uploads, asked, protocol_version = {}, {}, [], 'HTTP/1.1'
    def log_message(self, *a): pass

    def say(self, code=200, body=b'', **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for k, v in ({'Content-Length': str(len(body))} | {k.replace('_', '-'): v for k, v in headers.items()}).items(): self.send_header(k, v)
        self.end_headers()
        if self.command != 'HEAD': self.wfile.write(body)

    def may(self): return self.headers.get('Authorization') == 'Bearer right'

    def do_GET(self):
        self.asked.append(self.path)
        m = re.match(r'/([^/]+/[^/]+)/resolve/([^/]+)/(.+)', self.path.split('?')[0])
        if not m or m[1] not in self.repos or not self.repos[m[1]]: return self.say(401, b'', X_Error_Code='RepoNotFound')
        commits = self.repos[m[1]]
        commit = list(commits)[-1] if m[2] == 'main' else m[2]
        if commit not in commits: return self.say(404, b'', X_Error_Code='RevisionNotFound')
        if m[3] not in commits[commit]: return self.say(404, b'', X_Error_Code='EntryNotFound', X_Repo_Commit=commit)
        body = commits[commit][m[3]]
        self.say(200, body, ETag=f'"{hashlib.sha256(body).hexdigest()}"', X_Repo_Commit=commit, Accept_Ranges='bytes')
    do_HEAD = do_GET

    def do_POST(self):
        self.asked.append(self.path)
        body, path = self.rfile.read(int(self.headers.get('Content-Length') or 0)), self.path.split('?')[0]
        if path == '/api/validate-yaml': return self.say(200, dict(errors=[], warnings=[]))
        if not self.may(): return self.say(401, dict(error='Invalid credentials'), X_Error_Message='Invalid credentials')
        if path == '/api/repos/create':
            name = json.loads(body); name = f"{name.get('organization') or 'me'}/{name['name']}"
            if name in self.repos: return self.say(409, dict(error='You already created this model repo', url=f'http://{self.headers["Host"]}/{name}'))
            self.repos[name] = {}
            return self.say(200, dict(url=f'http://{self.headers["Host"]}/{name}'))
        m = re.match(r'/api/models/([^/]+/[^/]+)/(preupload|commit)/main', path)
        if m[2] == 'preupload':
            return self.say(200, dict(files=[dict(path=f['path'], uploadMode='regular', shouldIgnore=False, oid=None) for f in json.loads(body)['files']]))
        lines, files = [json.loads(l) for l in body.splitlines()], dict(next(reversed(self.repos[m[1]].values()), {}))
        for l in lines:
            if l['key'] == 'file': files[l['value']['path']] = base64.b64decode(l['value']['content'])
        commit = hashlib.sha1(body).hexdigest()
        self.repos[m[1]][commit] = files
        self.say(200, dict(commitUrl=f'http://{self.headers["Host"]}/{m[1]}/commit/{commit}', commitOid=commit, hookOutput=''))


@pytest.fixture
def endpoint(tmp_path, monkeypatch):
    "A Hub of our own, and a cache that nobody has used"
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path/'cache'))
    monkeypatch.setattr('huggingface_hub.constants.HF_TOKEN_PATH', str(tmp_path/'token'))
    Hub.repos, Hub.asked = {}, []
    server = ThreadingHTTPServer(('127.0.0.1', 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown(); server.server_close()


def memory(seed=0):
    m = Memory.addressed(4, 2, (1, 8, 8), ['zero', 'one', 'two'], seed=seed, whitening=Standardize.fit(torch.rand(20, 1, 8, 8)))
    m.meta = dict(settings=dict(data='digits', method='full', net='convnet', width=8, depth=1), mean=81.25, std=.5, protocol='2 fresh networks')
    return m


def test_there_and_back(endpoint):
    "What is pushed comes back to the bit, with its whitening and what it says of itself; the second time nothing is fetched"
    m = memory()
    url = m.push_to_hub('me/digits', token='right', endpoint=endpoint)
    assert url.startswith(f'{endpoint}/me/digits/commit/') and sorted(list(Hub.repos['me/digits'].values())[-1]) == ['README.md', 'memory.safetensors', 'recalled.png']
    back = Memory.from_pretrained('me/digits', endpoint=endpoint)
    assert torch.equal(back.recall()[0], m.recall()[0]) and back.meta == m.meta and back.whitening.fingerprint == m.whitening.fingerprint
    fetched = lambda: sum('memory.safetensors' in p for p in Hub.asked)
    first = fetched()
    Memory.from_pretrained('me/digits', url.split('/')[-1], endpoint=endpoint)
    assert fetched() == first       # a commit that is here is not asked for


def test_revisions(endpoint):
    "A commit stays what it was when a newer one comes"
    old, new = memory(0), memory(1)
    first = old.push_to_hub('me/two', token='right', endpoint=endpoint).split('/')[-1]
    new.push_to_hub('me/two', token='right', endpoint=endpoint, message='Better')
    assert torch.equal(Memory.from_pretrained('me/two', endpoint=endpoint).bases, new.bases)
    assert torch.equal(Memory.from_pretrained('me/two', first, endpoint=endpoint).bases, old.bases)


def test_the_card_is_one(endpoint, tmp_path):
    "The library reads our card, with the accuracy where a Hub looks for it, and finds nothing to object to"
    memory().save_pretrained(tmp_path)
    card = hub.ModelCard.load(tmp_path/'README.md')
    result, = card.data.eval_results
    assert (result.dataset_name, result.metric_type, result.metric_value) == ('digits', 'accuracy', 81.25)
    assert card.data.library_name == 'remember_past' and 'dataset-distillation' in card.data.tags and card.data.datasets == ['digits']


@pytest.mark.parametrize('do, says', [
    (lambda e: Memory.from_pretrained('me/nothing', endpoint=e), 'no repository me/nothing'),
    (lambda e: Memory.from_pretrained('me/other', endpoint=e), 'is no memory'),
    (lambda e: Memory.from_pretrained('me/digits', 'v9', endpoint=e), 'no such revision'),
    (lambda e: memory().push_to_hub('me/x', token='wrong', endpoint=e), 'me/x'),
    (lambda e: memory().push_to_hub('me/x y', token='right', endpoint=e), 'OWNER/NAME'),
])
def test_refused_in_one_sentence(endpoint, do, says):
    memory().push_to_hub('me/digits', token='right', endpoint=endpoint)
    Hub.repos['me/other'] = {'c'*40: {'README.md': b'something else'}}
    with pytest.raises(BadInput) as e: do(endpoint)
    assert says in str(e.value) and '\n' not in str(e.value)


def test_offline(endpoint, monkeypatch):
    "With the Hub gone, what was fetched once is still here, and what was not is one sentence"
    monkeypatch.setattr('time.sleep', lambda seconds: None)   # the library tries five times, with pauses
    m = memory()
    m.push_to_hub('me/digits', token='right', endpoint=endpoint)
    Memory.from_pretrained('me/digits', endpoint=endpoint)
    gone = 'http://127.0.0.1:9'
    assert torch.equal(Memory.from_pretrained('me/digits', endpoint=gone).bases, m.bases)
    with pytest.raises(BadInput, match='cannot be reached'): Memory.from_pretrained('me/new', endpoint=gone)


def test_damage_on_the_way(endpoint):
    "A file that changed on the Hub is refused by its digest"
    memory().push_to_hub('me/digits', token='right', endpoint=endpoint)
    files = list(Hub.repos['me/digits'].values())[-1]
    b = bytearray(files['memory.safetensors']); b[-5] ^= 1; files['memory.safetensors'] = bytes(b)
    with pytest.raises(BadInput, match='fetch it again'): Memory.from_pretrained('me/digits', endpoint=endpoint)


def test_without_the_library(tmp_path):
    "Without huggingface_hub a memory of the package comes by name, and a Hub's is a sentence that says what to install"
    code = ("import sys; sys.modules['huggingface_hub'] = None\nfrom remember_past.all import Memory\n"
            "print(Memory.from_pretrained('mnist-1ipc'))\ntry: Memory.from_pretrained('me/x')\nexcept ValueError as e: print(e)")
    got = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=tmp_path, check=True).stdout.splitlines()
    assert got[0].startswith('Memory: 16 bases') and "pip install 'remember_past[hub]'" in got[1]
