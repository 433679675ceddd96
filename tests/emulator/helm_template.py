"""Lints a chart and renders it by Helm's own engine: helm_template.py CHART RELEASE NAMESPACE VALUES-AS-JSON"""

import json
import sys

import helm_python as helm

chart, release, namespace, values = sys.argv[1:]
values = json.loads(values)
report = helm.lint(chart, values, strict=True, namespace=namespace)
# 1 is information, as that there is no icon.
wrong = [message["error"] for message in report["messages"] if message["severity"] > 1] + report["errors"]
if wrong:
    sys.exit("\n".join(wrong))
with helm.Chart.load(chart) as loaded:
    rendered = loaded.render(values, name=release, namespace=namespace)
print(json.dumps(rendered))
