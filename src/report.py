"""Compare finished runs: means over seeds, intervals, paired differences; best first.

python src/report.py                                  # everything under outputs/
python src/report.py run=outputs/course/a,outputs/course/b
python src/report.py run=a,b,c against=d,e,f          # two choices, paired by seed
python src/report.py published=true                   # the published tables beside our figures
"""

from leanvit.app.entry import ask

if __name__ == "__main__":
    ask("report", __doc__)
