"""Distil a data set into a small addressed memory, recall it, and train networks on what comes back.

    from remember_past.all import *

    ds     = load_data('digits')
    net    = MLP(ds.shape, ds.n_classes, widths=(64,))
    start  = Memory.addressed(K=6, ipc=1, shape=ds.shape, classes=ds.classes, scale=1)
    memory = distill(start, ds.x_train, ds.y_train, net, iterations=300, inner_steps=30, inner_lr=.1, outer='adam', outer_lr=.05)
    evaluate(memory, net, ds.x_test, ds.y_test, nets=5, epochs=60, lr=.1)['mean']   # percent of test images right

The method:  addressing (Eq. 2), memory (Eq. 4), bptt (the inner loop and its derivative), distill (Algorithm 1), evaluate
Around it:   data, nets, train, engine (what computes a step), show (pictures), lab (experiments, tables, commands)
Each module is exported from a notebook of the same name under nbs/; begin with nbs/00_idea.ipynb.
"""
__version__ = "0.1.0"
