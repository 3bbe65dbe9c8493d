"The home page's picture, nbs/images/idea.png, from a memory of MNIST in this repository"
import sys
from pathlib import Path
import matplotlib; matplotlib.use('agg')
import matplotlib.pyplot as plt, numpy as np, torch
from matplotlib.patches import Rectangle
from remember_past.memory import Memory
from remember_past.show.pictures import sheet, to_pixels

top = Path(__file__).resolve().parent.parent
source = top/'figures'/'small'/'memories'/'mnist-ipc1-full-seed0-9bfaeaeb.safetensors'
digit, matrix, shown = 2, 0, 8

def panel(fig, box, title, below=''):
    "An empty square of the figure with words above and below"
    ax = fig.add_axes(box)
    ax.set_title(title, fontsize=9, pad=6)
    ax.text(.5, -.04, below, transform=ax.transAxes, ha='center', va='top', fontsize=7.5, color='0.35')
    ax.set_xticks([]); ax.set_yticks([])
    for s in ax.spines.values(): s.set_visible(False)
    return ax

def main(target=top/'nbs'/'images'/'idea.png'):
    "Query, address, bases, images: Eq. 2 from left to right"
    m = Memory.load(source)
    y = torch.tensor([digit])
    x, A = m.recall(y)[0], m.coefs[matrix].detach().numpy()
    hot = np.zeros((m.d_y, 1))
    hot[digit] = 1
    fig = plt.figure(figsize=(8, 1.95), dpi=110)
    def heat(ax, a): ax.imshow(a, cmap='RdBu', vmin=-abs(A).max(), vmax=abs(A).max(), aspect='equal', interpolation='nearest')
    ax = panel(fig, [.02, .13, .05, .7], f'query “{digit}”', 'one-hot')
    ax.imshow(hot, cmap='Greys', vmin=0, vmax=1.3)
    for c in range(m.d_y):
        ax.add_patch(Rectangle((-.5, c-.5), 1, 1, fill=False, lw=.5, ec='0.6', clip_on=False))
        ax.text(-.8, c, str(c), fontsize=6, ha='right', va='center')
    ax = panel(fig, [.1, .13, .25, .7], 'an addressing matrix', f'one of {m.r}; row {digit} is the address')
    heat(ax, A); ax.add_patch(Rectangle((-.5, digit-.5), m.K, 1, fill=False, lw=1.6, ec='black', clip_on=False))
    ax = panel(fig, [.395, .13, .2, .7], f'{m.K} shared bases', 'mixed as the address says')
    ax.imshow(sheet(to_pixels(m.bases*1e3), 4, 2), interpolation='nearest')
    ax = panel(fig, [.64, .13, .35, .7], f'recalled: images of a {digit}', f'{shown} of {m.r}, one for each matrix')
    ax.imshow(sheet(to_pixels(x[:shown], m.whitening), 4, 3), interpolation='nearest')
    for left in .083, .374, .618: fig.text(left, .48, '→', fontsize=15, ha='center', va='center')
    target.parent.mkdir(exist_ok=True)
    fig.savefig(target, metadata={'Software': None}, pil_kwargs=dict(optimize=True))
    return target

if __name__ == '__main__': print(main(*map(Path, sys.argv[1:])))
