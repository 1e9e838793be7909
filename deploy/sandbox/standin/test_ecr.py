"""Tests of the stand-in's ECR, over the wire with boto3, in the manner of test_standin and on a server of their own."""

import json
import unittest

from botocore.exceptions import ClientError

from .test_standin import Estate, setUpModule, tearDownModule  # noqa: F401


class Images(unittest.TestCase):
    """What the stand-in adds to moto's ECR."""

    def setUp(self):
        self.estate = Estate()

    def test_another_accounts_image_is_seen_where_its_repository_lets_in(self):
        ecr, name = self.estate.client("ecr"), {"registryId": "111111111111", "repositoryName": "dagster"}
        image = self.estate.facts["images"]["2024.12.0"].split("@")[1]
        for id in ({"imageTag": "2024.12.0"}, {"imageDigest": image}):
            [found] = ecr.batch_get_image(imageIds=[id], **name)["images"]
            self.assertEqual(found["imageId"]["imageDigest"], image)
        self.assertEqual(ecr.batch_get_image(imageIds=[{"imageTag": "x"}], **name)["failures"][0]["failureCode"],
                         "ImageNotFound")
        with self.assertRaises(ClientError) as denied:
            ecr.batch_get_image(imageIds=[{"imageTag": "x"}], registryId="111111111111", repositoryName="private")
        self.assertEqual(denied.exception.response["Error"]["Code"], "AccessDeniedException")

    def test_a_scan_that_was_started_is_told_with_the_image(self):
        ecr = self.estate.client("ecr")
        ecr.create_repository(repositoryName="own")
        ecr.put_image(repositoryName="own", imageTag="1", imageManifest=json.dumps({"mediaType": "a/b"}))
        [before] = ecr.describe_images(repositoryName="own")["imageDetails"]
        self.assertNotIn("imageScanFindingsSummary", before)
        ecr.start_image_scan(repositoryName="own", imageId={"imageTag": "1"})
        [after] = ecr.describe_images(repositoryName="own")["imageDetails"]
        self.assertEqual(after["imageScanFindingsSummary"]["findingSeverityCounts"], {"HIGH": 1})
