"""Classify images without labels, as a finished run learnt to.

    python src/predict.py run=outputs/... images=photos
    python src/predict.py run=outputs/... 'images=photos/**/*.jpg' tta=flip
    python src/predict.py run=outputs/... images=a.jpg,b.png,more.zip output=answers

Writes predictions.csv and least_certain.html into predicted/ of the run, or into output=. A file
that cannot be read stops nothing: it is named, and its line of the table says why.
"""

from leanvit.app.entry import ask

if __name__ == "__main__":
    ask("predict", __doc__)
