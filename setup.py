"Everything the installer needs is in settings.ini, where nbdev reads it too; this file only passes it on."
import re, sys
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

here = Path(__file__).parent
sys.path.insert(0, str(here/'tools'))
from stubs import write_stubs
ini = ConfigParser(delimiters=['='])
ini.read(here/'settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']
words = lambda key: cfg.get(key, '').split()   # requirements and scripts are separated by blanks or line ends
home, site = cfg['git_url'], cfg['doc_host'] + cfg['doc_baseurl']

def long_description():
    "The home page, its links and pictures leading to the repository"
    readme = here/'README.md'
    if not readme.exists(): return cfg['description']
    at = lambda kind: f'{home}/{kind}/{cfg["branch"]}/'
    text = re.sub(r'(!\[[^]]*\]\()(?!https?:|#)', lambda m: m[1] + at('raw'), readme.read_text(encoding='utf-8'))
    return re.sub(r'(?<!!)(\[[^][]*\]\()(?!https?:|#)', lambda m: m[1] + at('blob'), text)

class WithStubs(build_py):
    "What `@patch` adds is invisible to type checkers; the wheel's .pyi files show it"
    def run(self):
        super().run()
        if not self.editable_mode: write_stubs(Path(self.build_lib)/cfg['lib_name'])

setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    long_description=long_description(),
    long_description_content_type='text/markdown',
    author=cfg['author'],
    keywords=cfg['keywords'],
    license='Apache-2.0',
    url=home,
    project_urls={'Repository': home, 'Documentation': site, 'Issues': f'{home}/issues', 'Changelog': f'{home}/blob/{cfg["branch"]}/CHANGELOG.md'},
    classifiers=[f'Development Status :: {cfg["status"]} - ' + {'3': 'Alpha', '4': 'Beta', '5': 'Production/Stable'}[cfg['status']],
                 f'Intended Audience :: {cfg["audience"]}', f'Natural Language :: {cfg["language"]}', 'Operating System :: OS Independent',
                 'Programming Language :: Python :: 3', *(f'Programming Language :: Python :: 3.{n}' for n in range(int(cfg['min_python'].split('.')[1]), 14)),
                 'Topic :: Scientific/Engineering :: Artificial Intelligence', 'Framework :: Jupyter', 'Typing :: Typed'],
    python_requires='>=' + cfg['min_python'],
    packages=find_packages(include=[cfg['lib_name'], cfg['lib_name'] + '.*']),
    include_package_data=True,  # as MANIFEST.in says; params/ and memories/ are links to where git keeps them
    install_requires=words('requirements'),
    extras_require={'dev': words('dev_requirements'), 'bench': words('bench_requirements'), 'cluster': words('cluster_requirements'),
                    'hub': words('hub_requirements'), 'log': words('log_requirements')},
    entry_points={'console_scripts': words('console_scripts'), 'nbdev': [f"{cfg['lib_name']}={cfg['lib_name']}._modidx:d"]},
    cmdclass={'build_py': WithStubs},
    zip_safe=False,
)
