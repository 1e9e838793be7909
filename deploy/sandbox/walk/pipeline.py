"""northshire's real Dagster, looked at from outside: its buckets, its runs, whether it is awake, and its processes.

Nothing of the product is asked here. Buckets and tasks are the stand-in's (which verifies no signatures, so that a
request need only say whose it is), runs are told by Dagster's own page, and processes by the runner's log.
"""

import json
import re
import urllib.error
import urllib.parse
import urllib.request


LOCATION, REPOSITORY, WEBSERVER_PORT = "sfdata_pipelines", "sync", 3000
RUNS = """query($limit: Int) { runsOrError(limit: $limit) { __typename ... on Runs { results {
  runId jobName status creationTime startTime endTime tags { key value } } } } }"""
LAUNCH = """mutation($given: ExecutionParams!) { launchRun(executionParams: $given) { __typename
  ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
RELOAD = """mutation($location: String!) { reloadRepositoryLocation(repositoryLocationName: $location) { __typename } }"""
SERVICE = "AmazonEC2ContainerServiceV20141113"
LOCATIONS = """{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError { __typename } } } } }"""


class Pipeline:
    def __init__(self, estate):
        self.estate = estate

    def s3(self, method, bucket, path="", data=None):
        return self.aws("s3", method, f"/{self.estate.facts['buckets'][bucket]}{path}", data, {"Content-Type": "text/csv"})

    def aws(self, service, method, path, data, headers):
        facts = self.estate.facts
        whose = (f"AWS4-HMAC-SHA256 Credential={facts['access_key_id']}/20240101/{facts['region']}/{service}/aws4_request, "
                 "SignedHeaders=host, Signature=none")
        request = urllib.request.Request(f"{self.estate.url}{path}", data, {"Authorization": whose, **headers}, method=method)
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.read().decode()

    def scale(self, service, desired):
        """By hand, past the product."""
        body = {"cluster": self.estate.facts["cluster"], "service": service, "desiredCount": desired}
        self.aws("ecs", "POST", "/", json.dumps(body).encode(),
                 {"X-Amz-Target": f"{SERVICE}.UpdateService", "Content-Type": "application/x-amz-json-1.1"})

    def put(self, bucket, key, text):
        self.s3("PUT", bucket, "/" + urllib.parse.quote(key), text.encode())

    def read(self, bucket, key):
        """What lies there, or None."""
        try:
            return self.s3("GET", bucket, "/" + urllib.parse.quote(key))
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return None

    def keys(self, bucket, prefix=""):
        found = self.s3("GET", bucket, f"?list-type=2&prefix={urllib.parse.quote(prefix)}")
        return re.findall(r"<Key>([^<]*)</Key>", found)

    def services(self):
        """Desired and running tasks of each of Dagster's services, by the stand-in."""
        services = self.estate.ask_standin("GET", f"tasks?account={self.estate.facts['account']}")["services"]
        return {name: service for name, service in services.items() if name in self.estate.facts["services"]}

    def is_asleep(self):
        """Nothing is wanted and nothing is left."""
        return all(not service["desired"] and not service["tasks"] for service in self.services().values())

    def is_awake(self):
        """Everything is wanted and runs, and the page has loaded the code."""
        running = all(service["desired"] == service["running"] == 1 for service in self.services().values())
        return running and self.is_loaded()

    def is_loaded(self):
        return self.location() == "RepositoryLocation"

    def location(self):
        """What Dagster's page has of the code: RepositoryLocation, PythonError, or None while it has neither."""
        entries = ((self.ask(LOCATIONS) or {}).get("workspaceOrError") or {}).get("locationEntries") or []
        kinds = [(entry["locationOrLoadError"] or {}).get("__typename") for entry in entries]
        return kinds[0] if len(kinds) == 1 else None

    def reload(self):
        self.ask(RELOAD, location=LOCATION)

    def page(self):
        """Where Dagster's page is, if it is anywhere."""
        tasks = self.estate.ask_standin("GET", f"tasks?account={self.estate.facts['account']}")["tasks"]
        addresses = [task["address"] for task in tasks
                     if task["group"] == "service:webserver" and task["status"] == "RUNNING"]
        return f"http://{addresses[-1]}:{WEBSERVER_PORT}" if addresses else None

    def ask(self, query, **variables):
        """GraphQL's data, or None when nobody answers."""
        page = self.page()
        if not page:
            return None
        body = json.dumps({"query": query, "variables": variables}).encode()
        try:
            request = urllib.request.Request(f"{page}/graphql", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=10) as reply:
                return json.load(reply).get("data")
        except (OSError, ValueError):
            return None

    def runs(self, limit=50):
        """The newest first; None when the page is away."""
        answer = self.ask(RUNS, limit=limit)
        return answer and [{**run, "tags": {tag["key"]: tag["value"] for tag in run["tags"]}}
                           for run in answer["runsOrError"]["results"]]

    def launch(self, job, **tags):
        """The id of a new run, or None when the page is away."""
        answer = self.ask(LAUNCH, given={
            "selector": {"repositoryLocationName": LOCATION, "repositoryName": REPOSITORY, "jobName": job},
            "runConfigData": {}, "mode": "default",
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]}})
        return answer and (answer["launchRun"].get("run") or {}).get("runId")

    def processes(self):
        """What the runner's log says of every start and end, in order."""
        lines = self.estate.runner.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def most_at_once(self, group):
        """How many processes of a task group ran side by side at most; of daemons never more than one."""
        now, most = set(), 0
        for entry in self.processes():
            if entry.get("group") == group and entry["event"] in ("start", "end"):
                (now.add if entry["event"] == "start" else now.discard)(entry["task"])
                most = max(most, len(now))
        return most
