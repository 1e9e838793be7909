"""Reads what the standard library can't, with the virtual environment's Python: `python -m walk.reading KIND [FILE]`.

`metrics` parses a Prometheus page from standard input, as a scraper would; `certificate` tells of the first
certificate in a PEM file. The answer is JSON on standard output.
"""

import json
import sys
from pathlib import Path


def metrics():
    from prometheus_client.parser import text_string_to_metric_families

    return [{"name": sample.name, "labels": sample.labels, "value": sample.value, "type": family.type}
            for family in text_string_to_metric_families(sys.stdin.read()) for sample in family.samples]


def certificate(path):
    from cryptography import x509

    pem = Path(path).read_text()
    found = x509.load_pem_x509_certificate(pem[pem.index("-----BEGIN CERTIFICATE"):].encode())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {"uri": names.get_values_for_type(x509.UniformResourceIdentifier)[0],
            "serial": format(found.serial_number, "x"),
            "from": found.not_valid_before_utc.isoformat(), "until": found.not_valid_after_utc.isoformat(),
            "ends": found.not_valid_after_utc.timestamp()}


if __name__ == "__main__":
    kind, *arguments = sys.argv[1:]
    json.dump({"metrics": metrics, "certificate": certificate}[kind](*arguments), sys.stdout)
