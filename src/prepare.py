"""Bring the course images into data/ and decode them, so that training starts at once.

python src/prepare.py source=cifar10_course.zip   # copied to data/
python src/prepare.py                                  # the official archive, downloaded
"""

from leanvit.app.entry import ask

if __name__ == "__main__":
    ask("prepare", __doc__)
