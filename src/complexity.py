"""What nets cost: parameters, multiply-accumulates, where they go, and how fast the nets are here.

    python src/complexity.py [choices and values, as for src/train.py]
    python src/complexity.py model=vit,coatnet model.attention=sdpa
    python src/complexity.py experiment=vit_v1.1,swin_v0.1 measure=false format=json
    python src/complexity.py published=true

Values with commas make a grid, as in train.py -m. No data are read, no weights are loaded, and no
file is written. A net has model.num_classes classes, or 10. With lightweight=early_exit or a_vit
the MACs are those of an image that goes to the end. Besides the choices:

    format=table      a table to read; json: everything, for programs
    measure=true      speed and memory on this machine, some ten seconds for each net;
                      false: only what can be counted (the default with published=true)
    parts=false       true: what each part of a net costs (always for a single net, and in json)
    published=false   true: every experiment of the published tables, beside its published figures
"""

from leanvit.app.entry import ask

if __name__ == "__main__":
    ask("complexity", __doc__, of_train=True)
