"""What a task's process sees: the image that it would start from, and the few things that differ from AWS.

Task definitions are those of the templates, and commands run as they stand there. Each task has a folder of its own in place
of its disk. Translated are, and each has to be there: a task has no network of its own, so that 0.0.0.0 means the task's own
address; there is no DNS that knows database and code server; PostgreSQL speaks no TLS; its role's credentials are variables;
and a sensor looks more often than a template may say.
"""

import os
import re
import sys
from pathlib import Path

PIPELINES = Path(__file__).resolve().parents[1] / "pipelines"
SENSOR = "SENSOR_MIN_INTERVAL"


class Home:
    """`facts` name the database of the templates, and the image's variables."""

    def __init__(self, folder, facts, database_port, code_server_port):
        self.folder, self.image = Path(folder), facts["image"]
        self.folder.mkdir(mode=0o700)
        self.texts = {
            "DAGSTER_YAML": (
                (rf"hostname: {re.escape(facts['database'])}$", "hostname: 127.0.0.1"), ("port: 5432$", f"port: {database_port}"),
                ("sslmode: require", "sslmode: disable")),
            "WORKSPACE_YAML": (("host: code-server, port: 4000", f"host: 127.0.0.1, port: {code_server_port}"),)}

    def command(self, task, credentials):
        """Command line, variables and folder of a task's process."""
        folder = self.folder / task["id"]
        folder.mkdir(mode=0o700, exist_ok=True)
        command = [task["address"] if part == "0.0.0.0" else part for part in task["command"]]
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        given = {name: self.translate(name, value) for name, value in task["environment"].items()}
        if SENSOR in given:
            given[SENSOR] = self.image[SENSOR]
        return command, {
            **kept, "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '/usr/bin:/bin')}",
            "PYTHONPATH": str(PIPELINES), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1",
            **self.image, **given, **credentials, "DAGSTER_HOME": str(folder)}, folder

    def translate(self, name, text):
        for old, new in self.texts.get(name, ()):
            text, found = re.subn(old, new, text, flags=re.M)
            if found != 1:
                raise ValueError(f"{name} of the task definition has {found} places like {old!r}, which runner/home.py translates")
        return text
