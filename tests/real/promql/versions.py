"""What a version of Prometheus can do, and which of its switches it needs for it."""
import re
from subprocess import PIPE, STDOUT, run

# The first version that knows a thing; what is not here was in 2.42, the oldest that is looked at. None: no version that we met.
SINCE = {
    "annotations": (2, 50),
    "anchored": (3, 7),
    "conflicting counter resets": (3, 7),
    "details of monotonicity": (3, 10),
    "delayed name removal": (2, 55),
    "double_exponential_smoothing": (3, 0),
    "duration expressions": (3, 4),
    "fill": (3, 10),
    "first_over_time": (3, 7),
    "histogram_avg": (2, 51),
    "histogram_quantiles": (3, 11),
    "histogram_stddev": (2, 46),
    "histogram_stdvar": (2, 46),
    "histograms": (2, 55),
    "info": (3, 0),
    "largest parameter in annotations": (3, 6),
    "left-open ranges": (3, 0),
    "limit_ratio": (2, 54),
    "limitk": (2, 54),
    "mad_over_time": (2, 50),
    "mean of histograms from their sum": (3, 10),
    "max_of": (3, 12),
    "names in annotations only if there are any": (3, 7),
    "numbers and durations alike": (3, 0),
    "operators that trim": (3, 11),
    "smoothed": (3, 7),
    "sort warning": (3, 12),
    "sort_by_label": (2, 50),
    "sort_by_label_desc": (2, 50),
    "start": (3, 12),
    "start_timestamp": (3, 12),
    "step() in durations": (3, 6),
    "ts_of_first_over_time": (3, 7),
    "ts_of_last_over_time": (3, 5),
    "ts_of_max_over_time": (3, 5),
    "ts_of_min_over_time": (3, 5),
    "UTF-8 names": (3, 0),
}

# Switches, and what each is for.
FEATURES = {
    "promql-experimental-functions": (2, 50),
    "native-histograms": (2, 40),
    "promql-delayed-name-removal": (2, 55),
    "promql-duration-expr": (3, 4),
    "promql-extended-range-selectors": (3, 7),
    "promql-binop-fill-modifiers": (3, 10),
}


class Version:
    """A version of Prometheus, and what it knows."""

    def __init__(self, text):
        self.text = text
        self.number = tuple(int(part) for part in re.match(r"(\d+)\.(\d+)", text).groups())

    @classmethod
    def of(cls, program):
        said = run([program, "--version"], stdout=PIPE, stderr=STDOUT, text=True, check=True).stdout
        return cls(re.search(r"version (\S+)", said).group(1))

    def knows(self, thing):
        return self.number >= SINCE.get(thing, (0, 0))

    def unknown(self):
        """What is left out because this version does not know it."""
        return sorted(thing for thing in SINCE if not self.knows(thing))

    def features(self):
        return [name for name, since in FEATURES.items() if self.number >= since]
