"""What moto's S3 forgets or tells otherwise: EventBridge among the notifications, which version has arrived, whole replication
rules, whose bucket it is, whose requests are counted, and which policies S3 takes.

moto keeps that a bucket tells EventBridge and does not say so; of a replication rule it says half; an empty answer has
another root element than S3's; and who asks for a name that another account has is denied, where S3 answers that the
name is taken. moto takes every policy; S3 takes none with a principal that is gone, and none that is public where the bucket
blocks that. S3 may tell a policy as it was a moment ago: a request with STALE among its headers is answered so.
"""

import json
import re
from fnmatch import fnmatchcase

from moto.core.responses import ActionResult
from moto.iam.access_control import IAMPolicy, PermissionResult
from moto.s3 import notifications
from moto.s3.exceptions import NoSuchBucketPolicy, ReplicationConfigurationNotFoundError, S3ClientError
from moto.s3.models import FakeBucket, S3Backend, s3_backends
from moto.s3.responses import ACTION_MAP, S3Response

POLICY_BYTES = 20 * 1024
STALE = "x-standin-stale"


class Taken(S3ClientError):
    """No subclass of moto's BucketAlreadyExists, which it would look into."""

    code = 409

    def __init__(self):
        super().__init__("BucketAlreadyExists", "The requested bucket name is not available.")


class PolicyTooLarge(S3ClientError):
    code = 400

    def __init__(self):
        super().__init__("MalformedPolicy", "The policy is larger than 20 KB.")


class NoSuchPrincipal(S3ClientError):
    code = 400

    def __init__(self):
        super().__init__("MalformedPolicy", "Invalid principal in policy")


class PublicPolicy(S3ClientError):
    code = 403

    def __init__(self):
        super().__init__("AccessDenied", "The caller is not authorized to perform: s3:PutBucketPolicy on this resource "
                         "because public policies are prevented by the BlockPublicPolicy setting in S3 Block Public Access.")


def install():
    moto_create, moto_notification = S3Backend.create_bucket, S3Response.get_bucket_notification
    moto_put_policy, moto_versioning = S3Backend.put_bucket_policy, S3Response.get_bucket_versioning
    moto_event = notifications._get_s3_event
    moto_delete_policy, moto_policy = S3Backend.delete_bucket_policy, S3Response.get_bucket_policy
    moto_get, moto_put = S3Response._bucket_response_get, S3Response._bucket_response_put
    for verb in ("GET", "PUT"):
        ACTION_MAP["BUCKET"][verb]["metrics"] = f"{verb.title()}MetricsConfiguration"

    def bucket_response_get(response, bucket_name, querystring):
        if "metrics" not in querystring:
            return moto_get(response, bucket_name, querystring)
        response._set_action("BUCKET", "GET", querystring)
        response._authenticate_and_authorize_s3_action(bucket_name=bucket_name)
        kept = getattr(response.backend.get_bucket(bucket_name), "metrics_configurations", {})
        return f"<ListMetricsConfigurationsResult>{''.join(kept.values())}</ListMetricsConfigurationsResult>"

    def bucket_response_put(response, request, bucket_name, querystring):
        if "metrics" not in querystring:
            return moto_put(response, request, bucket_name, querystring)
        response._set_action("BUCKET", "PUT", querystring)
        response._authenticate_and_authorize_s3_action(bucket_name=bucket_name)
        bucket, body = response.backend.get_bucket(bucket_name), response.body
        body = body.decode() if isinstance(body, bytes) else body
        kept = bucket.__dict__.setdefault("metrics_configurations", {})
        kept[querystring["id"][0]] = re.sub(r"^\s*<\?xml[^>]*>", "", body)
        return ""

    def create_bucket(backend, bucket_name, *arguments, **options):
        owner = s3_backends.bucket_accounts.get(bucket_name)
        if owner and owner[1] != backend.account_id:
            raise Taken
        return moto_create(backend, bucket_name, *arguments, **options)

    def put_bucket_policy(backend, bucket_name, policy):
        if len(policy) > POLICY_BYTES:
            raise PolicyTooLarge
        bucket = backend.get_bucket(bucket_name)
        judge(json.loads(policy), bucket.public_access_block)
        bucket.policy_before = bucket.policy
        return moto_put_policy(backend, bucket_name, policy)

    def delete_bucket_policy(backend, bucket_name):
        bucket = backend.get_bucket(bucket_name)
        bucket.policy_before = bucket.policy
        return moto_delete_policy(backend, bucket_name)

    def get_bucket_policy(response):
        if STALE not in response.headers:
            return moto_policy(response)
        before = getattr(response.backend.get_bucket(response.bucket_name), "policy_before", None)
        if not before:
            raise NoSuchBucketPolicy(bucket_name=response.bucket_name)
        return 200, {}, before

    def get_bucket_notification(response):
        configuration = response.backend.get_bucket_notification_configuration(response.bucket_name)
        told = configuration and configuration.event_bridge is not None
        return rewritten(moto_notification(response), "NotificationConfiguration",
                         "<EventBridgeConfiguration/>" if told else "")

    def get_bucket_versioning(response):
        return rewritten(moto_versioning(response), "VersioningConfiguration")

    def get_s3_event(event_name, bucket, key, notification_id):
        """Which version of an object it is: what S3 says in each record, and moto in none."""
        event = moto_event(event_name, bucket, key, notification_id)
        for record in event["Records"]:
            record["s3"]["object"]["sequencer"] = f"{int(key.last_modified.timestamp() * 1e6):016X}"
            if bucket.is_versioned:
                record["s3"]["object"]["versionId"] = key.version_id
        return event

    notifications._get_s3_event = get_s3_event
    FakeBucket.get_permission = get_permission
    FakeBucket._log_permissions_enabled_policy = staticmethod(may_be_logged_to)
    S3Backend.create_bucket, S3Backend.put_bucket_policy = create_bucket, put_bucket_policy
    S3Backend.delete_bucket_policy, S3Response.get_bucket_policy = delete_bucket_policy, get_bucket_policy
    S3Response._bucket_response_get, S3Response._bucket_response_put = bucket_response_get, bucket_response_put
    S3Response.get_bucket_notification = get_bucket_notification
    S3Response.get_bucket_versioning = get_bucket_versioning
    S3Response.get_bucket_replication = get_bucket_replication


def keep_policy(account, bucket, policy):
    """Have a policy that S3 would not take: it did when the principals in it were still there."""
    s3_backends[account]["aws"].get_bucket(bucket).policy = json.dumps(policy).encode()


def judge(policy, block):
    """Whether S3 takes a policy (S3 user guide, "Blocking public access"; IAM user guide, "Principal")."""
    statements = policy.get("Statement", [])
    for one in statements if isinstance(statements, list) else [statements]:
        principal = one.get("Principal", {}) if isinstance(one, dict) else {}
        named = principal if isinstance(principal, str) else principal.get("AWS", [])
        named = [named] if isinstance(named, str) else named
        if not all(re.fullmatch(r"\*|\d{12}|arn:aws:.+", name) for name in named):
            raise NoSuchPrincipal
        if "*" in named and one["Effect"] == "Allow" and "Condition" not in one and block and block.block_public_policy:
            raise PublicPolicy


def get_permission(bucket, action, resource):
    """moto's answer, which looks at no conditions. Whoever comes to the stand-in comes in the clear, and counts as by TLS."""
    policy = json.loads(bucket.policy or "{}")
    given = policy.get("Statement", [])
    kept = [one for one in (given if isinstance(given, list) else [given])
            if "aws:SecureTransport" not in one.get("Condition", {}).get("Bool", {})]
    if not kept:
        return PermissionResult.NEUTRAL
    return IAMPolicy(json.dumps({**policy, "Statement": kept})).is_action_permitted(action, resource)


def may_be_logged_to(target_bucket, target_prefix):
    """Whether its policy lets S3 write logs under a prefix; moto knows no principal "*" and no other pattern than its own."""
    logs = f"arn:aws:s3:::{target_bucket.name}/{target_prefix or ''}2027-01-01"
    for one in json.loads(target_bucket.policy or "{}").get("Statement", []):
        service = one["Principal"].get("Service") if isinstance(one["Principal"], dict) else None
        actions, places = ([given] if isinstance(given, str) else given for given in (one["Action"], one["Resource"]))
        if (one["Effect"], service) == ("Allow", "logging.s3.amazonaws.com") and "s3:PutObject" in actions \
                and any(fnmatchcase(logs, place) for place in places):
            return True
    return False


def rewritten(answer, root, more=""):
    """An answer with this root element, and more in it."""
    status, headers, body = answer
    body = body.decode() if isinstance(body, bytes) else body
    body = re.sub(r"GetBucket(Notification|Versioning)Response", root, body)
    body = re.sub(rf"<{root}([^>]*)/>", rf"<{root}\1></{root}>", body)
    return status, headers, body.replace(f"</{root}>", f"{more}</{root}>")


def get_bucket_replication(response):
    response.data["Action"] = "GetBucketReplication"
    found = response.backend.get_bucket_replication(response.bucket_name)
    if not found:
        raise ReplicationConfigurationNotFoundError(bucket_name=response.bucket_name)
    rules = [replication_rule(rule) for rule in found["Rule"]]
    configuration = {"Role": found["Role"], "Rules": rules}
    return response.serialized(ActionResult({"ReplicationConfiguration": configuration}))


def replication_rule(rule):
    """From the XML that was put to the shape that is told."""
    rule = {**rule, "Priority": int(rule["Priority"])} if "Priority" in rule else dict(rule)
    wanted = rule.get("Filter") or {}
    both = wanted.get("And")
    if both:
        tags = both.get("Tag") or []
        both = {"Prefix": both.get("Prefix") or "", "Tags": tags if isinstance(tags, list) else [tags]}
        rule["Filter"] = {"And": both}
    elif "Filter" in rule:
        rule["Filter"] = {key: value or "" for key, value in wanted.items()}
    return rule
