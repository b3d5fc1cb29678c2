"""The reference parsers of Prometheus read what Quantonium exports.

The argument names the form, `prometheus` or `openmetrics`; standard input is the page. Standard output is a JSON list of samples, each
a list of name, labels, value and the labels of its exemplar, if it has one.
"""

import json
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

parse = {"openmetrics": openmetrics, "prometheus": prometheus}[sys.argv[1]]
samples = []
for family in parse(sys.stdin.read()):
    assert family.documentation, family.name
    for sample in family.samples:
        exemplar = sample.exemplar.labels if sample.exemplar else None
        samples.append([sample.name, sample.labels, sample.value, exemplar])
json.dump(samples, sys.stdout)
