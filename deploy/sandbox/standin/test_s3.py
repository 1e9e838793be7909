"""Tests of the stand-in's S3, over the wire with boto3, in the manner of test_standin and on a server of their own."""

import json
import unittest
import urllib.request

from botocore.exceptions import ClientError

from . import test_standin
from .test_standin import Estate, setUpModule, tearDownModule  # noqa: F401


class Buckets(unittest.TestCase):
    """What the stand-in adds to moto's S3."""

    def setUp(self):
        self.estate = Estate()
        self.s3, self.bucket = self.estate.s3, self.estate.facts["buckets"]["data-store"]

    def test_a_bucket_says_that_it_tells_event_bridge_and_whom_else(self):
        read = lambda: self.s3.get_bucket_notification_configuration(Bucket=self.bucket)  # noqa: E731
        self.assertNotIn("EventBridgeConfiguration", read())
        queue = self.estate.client("sqs").create_queue(QueueName="q")["QueueUrl"].rsplit("/", 1)[1]
        arn = f"arn:aws:sqs:eu-west-2:{self.estate.account}:{queue}"
        mine = {"Id": "mine", "QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}
        for event_bridge in ({"EventBridgeConfiguration": {}}, {}):
            self.s3.put_bucket_notification_configuration(
                Bucket=self.bucket, NotificationConfiguration={"QueueConfigurations": [mine], **event_bridge})
            self.assertEqual(read().get("EventBridgeConfiguration"), event_bridge.get("EventBridgeConfiguration"))
            self.assertEqual(read()["QueueConfigurations"], [mine])

    def test_an_arrival_is_told_to_its_queue_with_the_version_that_it_is(self):
        estate = self.estate
        name = test_standin.control("POST", "seed", account=estate.account, la=estate.la, arrivals=True)["arrivals"]
        sqs = estate.client("sqs")
        url = sqs.get_queue_url(QueueName=name)["QueueUrl"]

        def told():
            read = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
            bodies = [json.loads(message["Body"]) for message in read]
            return [record["s3"]["object"] for body in bodies for record in body.get("Records", [])]

        for _ in range(2):
            self.s3.put_object(Bucket=self.bucket, Key="a b/c.csv", Body=b"x")
        first, second = told()
        self.assertEqual((first["key"], first["eTag"]), ("a+b%2Fc.csv", second["eTag"]))
        self.assertLess(first["sequencer"], second["sequencer"])
        self.assertNotIn("versionId", first)
        self.s3.put_bucket_versioning(Bucket=self.bucket, VersioningConfiguration={"Status": "Enabled"})
        version = self.s3.put_object(Bucket=self.bucket, Key="a", Body=b"x")["VersionId"]
        self.assertEqual([one["versionId"] for one in told()], [version])

    def test_an_empty_answer_has_the_root_that_s3_gives_it(self):
        for asked, root in (("versioning", "VersioningConfiguration"), ("notification", "NotificationConfiguration")):
            with self.subTest(asked), urllib.request.urlopen(urllib.request.Request(
                    f"{test_standin.url}/{self.bucket}?{asked}", headers={"x-moto-account-id": self.estate.account})) as reply:
                self.assertRegex(reply.read().decode(), rf"<{root} [^>]*></{root}>")

    def test_a_bucket_says_which_of_its_requests_are_counted(self):
        listed = lambda: self.s3.list_bucket_metrics_configurations(  # noqa: E731
            Bucket=self.bucket).get("MetricsConfigurationList", [])
        self.assertEqual(listed(), [])
        part = {"Id": "part", "Filter": {"Prefix": "a/"}}
        for configuration in (part, {"Id": "all"}):
            self.s3.put_bucket_metrics_configuration(
                Bucket=self.bucket, Id=configuration["Id"], MetricsConfiguration=configuration)
        self.assertEqual(listed(), [part, {"Id": "all"}])
        calls = self.estate.calls(service="s3", action="ListBucketMetricsConfigurations")
        self.assertEqual(calls["count"], 2)

    def test_a_presigned_url_opens_its_object_and_is_logged(self):
        where = {"Bucket": self.bucket, "Key": "a b"}
        urls = [self.s3.generate_presigned_url(call, Params=where) for call in ("put_object", "get_object")]
        put = urllib.request.Request(urls[0], b"x", {"Content-Type": "text/csv"}, method="PUT")
        urllib.request.urlopen(put).close()
        with urllib.request.urlopen(urls[1]) as reply:
            self.assertEqual(reply.read(), b"x")
        self.assertEqual(self.estate.calls(action="PutObject", count=1)["count"], 1)

    def test_a_replication_rule_is_told_whole(self):
        backup = self.estate.facts["buckets"]["workspace"]
        for bucket in (self.bucket, backup):
            self.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        rules = [
            {"ID": "all", "Priority": 1, "Status": "Enabled", "Filter": {"Prefix": "in/"},
             "SourceSelectionCriteria": {"SseKmsEncryptedObjects": {"Status": "Enabled"}},
             "DeleteMarkerReplication": {"Status": "Disabled"},
             "Destination": {"Bucket": f"arn:aws:s3:::{backup}",
                             "EncryptionConfiguration": {"ReplicaKmsKeyID": "arn:aws:kms:eu-west-2:1:key/1"}}},
            {"ID": "some", "Priority": 2, "Status": "Disabled",
             "Filter": {"And": {"Prefix": "x", "Tags": [{"Key": "a", "Value": "b"}]}},
             "DeleteMarkerReplication": {"Status": "Disabled"}, "Destination": {"Bucket": f"arn:aws:s3:::{backup}"}}]
        whole = {"Role": "arn:aws:iam::1:role/copy", "Rules": rules}
        self.s3.put_bucket_replication(Bucket=self.bucket, ReplicationConfiguration=whole)
        self.assertEqual(self.s3.get_bucket_replication(Bucket=self.bucket)["ReplicationConfiguration"], whole)

    def test_a_name_is_taken_in_all_of_aws_and_a_policy_is_bounded(self):
        create = {"CreateBucketConfiguration": {"LocationConstraint": "eu-west-2"}, "Bucket": self.bucket}
        for estate, code in ((Estate(), "BucketAlreadyExists"), (self.estate, "BucketAlreadyOwnedByYou")):
            with self.assertRaises(ClientError) as raised:
                estate.s3.create_bucket(**create)
            self.assertEqual(raised.exception.response["Error"]["Code"], code)
        with self.assertRaises(ClientError):
            self.s3.put_bucket_policy(Bucket=self.bucket, Policy=json.dumps({"Statement": "x" * 20480}))

    def test_a_policy_with_a_principal_that_is_gone_or_public_is_not_taken(self):
        allow = lambda who, **more: json.dumps({"Version": "2012-10-17", "Statement": [  # noqa: E731
            {"Effect": "Allow", "Principal": who, "Action": "s3:GetObject",
             "Resource": f"arn:aws:s3:::{self.bucket}/*", **more}]})
        put = lambda policy: self.s3.put_bucket_policy(Bucket=self.bucket, Policy=policy)  # noqa: E731
        put(allow("*"))
        self.s3.put_public_access_block(
            Bucket=self.bucket, PublicAccessBlockConfiguration={"BlockPublicPolicy": True})
        for policy, code in ((allow("*"), "AccessDenied"), (allow({"AWS": ["*"]}), "AccessDenied"),
                             (allow({"AWS": "AROAEXAMPLE"}), "MalformedPolicy")):
            with self.subTest(policy), self.assertRaises(ClientError) as raised:
                put(policy)
            self.assertEqual(raised.exception.response["Error"]["Code"], code)
        put(allow({"AWS": [self.estate.account, "arn:aws:iam::111111111111:root"]}))
        put(allow("*", Condition={"StringEquals": {"aws:SourceVpc": "vpc-1"}}))
        gone = {"Statement": [{"Effect": "Allow", "Principal": {"AWS": "AROAEXAMPLE"}}]}
        test_standin.control("POST", "policy", account=self.estate.account, bucket=self.bucket, policy=gone)
        self.assertEqual(json.loads(self.s3.get_bucket_policy(Bucket=self.bucket)["Policy"]), gone)

    def test_a_refusal_of_what_comes_in_the_clear_refuses_nobody_here_and_another_does(self):
        def refuse(action, **more):
            self.s3.put_bucket_policy(Bucket=self.bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [
                {"Effect": "Deny", "Principal": "*", "Action": action, "Resource": f"arn:aws:s3:::{self.bucket}/*", **more}]}))

        refuse("s3:*", Condition={"Bool": {"aws:SecureTransport": "false"}})
        self.s3.put_object(Bucket=self.bucket, Key="k", Body=b"x")
        refuse("s3:PutObject")
        with self.assertRaises(ClientError):
            self.s3.put_object(Bucket=self.bucket, Key="k", Body=b"x")

    def test_a_stale_policy_is_the_one_before(self):
        policies = [json.dumps({"Version": "2012-10-17", "Id": name, "Statement": []}) for name in "ab"]
        for policy in policies:
            self.s3.put_bucket_policy(Bucket=self.bucket, Policy=policy)
        self.estate.fault("stale", service="s3", action="GetBucketPolicy", skip=1)
        told = [self.s3.get_bucket_policy(Bucket=self.bucket)["Policy"] for _ in range(3)]
        self.assertEqual(told, [*policies[::-1], policies[1]])
        self.assertEqual(self.estate.calls(action="GetBucketPolicy", count=1)["count"], 3)


if __name__ == "__main__":
    unittest.main()
