"""ECR across accounts: a registry answers whom its repositories' policies let in.

moto looks for a repository among the caller's own, whatever registry is asked. Here a call goes to the account that
its `registryId` names; into another one's repository only if there is one with a policy, which names the caller or all.
DescribeImages tells the findings of a scan that was started, which moto keeps to itself.
"""

import json

from moto.core.exceptions import JsonRESTError
from moto.ecr import urls
from moto.ecr.models import ecr_backends
from moto.ecr.responses import ECRResponse


class Denied(JsonRESTError):
    def __init__(self, caller, registry, name):
        super().__init__("AccessDeniedException", f"{caller} is not authorized on repository {name} of {registry}")


class Responses(ECRResponse):
    @property
    def ecr_backend(self):
        registry = self._get_param("registryId") or self.current_account
        backend = ecr_backends[registry][self.region]
        name = self._get_param("repositoryName")
        if registry != self.current_account:
            found = backend.repositories.get(name)
            if not found or not lets_in(found.policy, self.current_account):
                raise Denied(self.current_account, registry, name)
        return backend

    def describe_images(self):
        described = super().describe_images()
        for image in described.result["imageDetails"]:
            if image.last_scan:
                found = self.ecr_backend.describe_image_scan_findings(
                    image.registry_id, image.repository_name, {"imageDigest": image.image_digest})["imageScanFindings"]
                image.image_scan_findings_summary = {
                    "findingSeverityCounts": found["findingSeverityCounts"], "imageScanCompletedAt": image.last_scan}
        return described


def lets_in(policy, account):
    """Whether an Allow names the account, or everybody; actions are not looked at."""
    for statement in json.loads(policy or "{}").get("Statement", []):
        principals = statement["Principal"]
        named = principals if isinstance(principals, str) else principals["AWS"]
        names = [named] if isinstance(named, str) else named
        if statement["Effect"] == "Allow" and any(name == "*" or account in name for name in names):
            return True
    return False


def install():
    urls.url_paths["{0}/$"] = Responses.dispatch
