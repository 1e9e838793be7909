"""That the templates make what they promise, asked of the stand-in's services: `python -m unittest walk.test_deployed`.

One region for all tests: northshire as a person would have it who says only what has to be said, southby with everything
that is an option and off by default. And that no text is run with a place in it that is not one of this machine's.
"""

import json
import sys
import unittest

from standin import test_standin
from standin.test_standin import wait_for

from . import deployed, ground, stacks
from .children import Problem

PIN = f"{deployed.TRUST_DOMAIN}/{'a' * 64}/{'b' * 64}"
PLACES = {"data": "/d", "policy": "", "address": "127.0.0.1:1", "enrol": "127.0.0.1:2", "ops": "127.0.0.1:3", "credentials": "/c"}
KEY = "arn:aws:kms:eu-west-2:111111111111:key/00000000-0000-0000-0000-000000000000"


def setUpModule():
    global region
    test_standin.setUpModule()
    ground.PYTHON = sys.executable
    region = deployed.Region(test_standin.url)
    region.set_up(("northshire", "southby"))
    region.bring_in("northshire", PIN)


def tearDownModule():
    test_standin.tearDownModule()


class Account:
    def __init__(self, name):
        self.name, self.id = name, region.accounts.get(name, name)
        self.outputs, self.account = region.outputs[self.id], stacks.Account(test_standin.url, deployed.REGION, self.id)

    def __getattr__(self, service):
        return self.account.client(service.replace("_", "-"))


class Northshire(unittest.TestCase):
    """By default."""

    def setUp(self):
        self.la = Account("northshire")

    def test_buckets_are_private_versioned_and_encrypted_with_the_las_key(self):
        for bucket in ("DataStore", "Workspace", "Shared"):
            name = self.la.outputs[bucket]
            with self.subTest(name):
                self.assertTrue(all(self.la.s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"].values()))
                self.assertEqual(self.la.s3.get_bucket_versioning(Bucket=name)["Status"], "Enabled")
                [rule] = self.la.s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"]
                self.assertEqual(rule["ApplyServerSideEncryptionByDefault"]["KMSMasterKeyID"], self.la.outputs["KeyArn"])
                self.assertIn("aws:SecureTransport", self.la.s3.get_bucket_policy(Bucket=name)["Policy"])

    def test_a_file_is_told_to_the_agents_queue(self):
        self.la.s3.put_object(Bucket=self.la.outputs["DataStore"], Key="cin/new.xml", Body=b"x")
        seen = set()

        def told():
            found = self.la.sqs.receive_message(QueueUrl=self.la.outputs["ArrivalsQueue"], MaxNumberOfMessages=10)
            seen.update(json.loads(message["Body"])["detail"]["object"]["key"] for message in found.get("Messages", []))
            return any(key.endswith("new.xml") for key in seen)

        wait_for(told)

    def test_dagster_starts_at_nothing_and_its_daemon_never_overlaps(self):
        found = {one["serviceName"]: one for one in self.la.ecs.describe_services(
            cluster="sfdata", services=["webserver", "daemon", "code-server", "sfdata-agent"])["services"]}
        self.assertEqual({name: one["desiredCount"] for name, one in found.items()},
                         {"webserver": 0, "daemon": 0, "code-server": 0, "sfdata-agent": 1})
        for name in ("daemon", "sfdata-agent"):
            shape = found[name]["deploymentConfiguration"]
            self.assertEqual((shape["minimumHealthyPercent"], shape["maximumPercent"]), (0, 100), name)
        for name, one in found.items():
            self.assertEqual(one["networkConfiguration"]["awsvpcConfiguration"]["assignPublicIp"], "DISABLED", name)
            self.assertTrue(one["deploymentConfiguration"]["deploymentCircuitBreaker"]["rollback"], name)

    def test_no_password_is_a_plain_variable(self):
        for name, one in region.services("northshire", "webserver", "daemon", "code-server").items():
            self.assertIn("DAGSTER_PG_PASSWORD", one["secrets"], name)
            self.assertNotIn("DAGSTER_PG_PASSWORD", one["environment"], name)

    def test_the_database_falls_to_nothing(self):
        [cluster] = self.la.rds.describe_db_clusters()["DBClusters"]
        self.assertEqual(cluster["ServerlessV2ScalingConfiguration"]["MinCapacity"], 0)
        self.assertTrue(cluster["StorageEncrypted"] and cluster["DeletionProtection"])

    def test_the_agents_journal_is_a_file_system_that_its_role_mounts_encrypted(self):
        [system] = self.la.efs.describe_file_systems()["FileSystems"]
        self.assertTrue(system["Encrypted"])
        policy = self.la.efs.describe_file_system_policy(FileSystemId=system["FileSystemId"])["Policy"]
        self.assertIn(f"arn:aws:iam::{self.la.id}:role/sfdata-agent", policy)

    def test_the_las_network_has_no_way_out_but_endpoints(self):
        [vpc] = self.la.ec2.describe_vpcs(Filters=[{"Name": "cidr", "Values": ["10.80.0.0/23"]}])["Vpcs"]
        mine = [{"Name": "vpc-id", "Values": [vpc["VpcId"]]}]
        routes = [route for table in self.la.ec2.describe_route_tables(Filters=mine)["RouteTables"] for route in table["Routes"]]
        self.assertEqual({route.get("GatewayId", "none") for route in routes if not route.get("GatewayId", "").startswith("vpce-")},
                         {"local"})
        links = [one["ServiceName"] for one in self.la.ec2.describe_vpc_endpoints(Filters=mine)["VpcEndpoints"]]
        self.assertIn(region.outputs[deployed.CORE]["HubService"], links)

    def test_the_hub_lets_this_account_find_it(self):
        core, id = Account(deployed.CORE), region.outputs[deployed.CORE]["HubService"].split(".")[-1]
        allowed = core.ec2.describe_vpc_endpoint_service_permissions(ServiceId=id)["AllowedPrincipals"]
        self.assertEqual([one["Principal"] for one in allowed], [f"arn:aws:iam::{self.la.id}:root"])

    def test_what_hub_and_agent_run_with_names_no_place_outside_of_this_machine(self):
        for text in (region.hub_text(**PLACES), region.agent("northshire", **PLACES)[0]):
            self.assertNotRegex(text, "amazonaws.com|0\\.0\\.0\\.0|/var/lib")

    def test_sleeping_is_one_parameter_and_leaves_the_services_counts(self):
        self.la.ecs.update_service(cluster="sfdata", service="daemon", desiredCount=1)
        self.assertNotIn("[power]", region.agent("northshire", **PLACES)[0])
        region.let_sleep("northshire")
        self.assertIn("[power]", region.agent("northshire", **PLACES)[0])
        [daemon] = self.la.ecs.describe_services(cluster="sfdata", services=["daemon"])["services"]
        self.assertEqual(daemon["desiredCount"], 1)


class Options(unittest.TestCase):
    """Everything that is off by default, loaded once."""

    def test_all_that_is_an_option_can_be_had(self):
        core, account, la = deployed.CORE, region.accounts["southby"], {"LaName": "southby"}
        told, stack = region.outputs[core], deployed.stack
        region.load(
            core, stack("shared", "core/shared.yaml", OrganizationId=region.organisation["id"], SharedWith=region.organisation["unit"]),
            stack("hub", "core/hub.yaml", update=True, Tasks=1, AlarmEmail="a@example.org", DispatchKeyArn=KEY, Maintenance="on"))
        self.assertIn("kms_key", region.services_of(core, "sfdata-core", "hub")["hub"]["environment"]["SFDATA_HUB_TOML"])
        certificates = stacks.Account(test_standin.url, deployed.REGION, account).client("acm")
        certificate = certificates.request_certificate(DomainName="dagster.southby.example")["CertificateArn"]
        region.load(
            account,
            stack("network", "child/network.yaml", **la, Network="shared", SharedVpcId=told["VpcId"], HubAddress=told["HubAddress"],
                  SharedSubnetIds=told["SharedSubnetIds"], LoadBalancer="yes", Frontend="yes", ClientCidr="10.20.0.0/16"),
            stack("storage", "child/storage.yaml", **la, Copies="yes"),
            stack("database", "child/database.yaml", **la, Database="instance"),
            stack("dagster-roles", "child/dagster-roles.yaml", CoreAccount=core),
            stack("balancer", "child/balancer.yaml", **la, CertificateArn=certificate, LoadBalancer="yes", Frontend="yes"),
            stack("dagster", "child/dagster.yaml", **la, CoreAccount=core, LoadBalancer="yes"),
            stack("frontend", "child/frontend.yaml", **la, CoreAccount=core))
        southby = Account("southby")
        [instance] = southby.rds.describe_db_instances()["DBInstances"]
        self.assertFalse(instance["PubliclyAccessible"])
        rules = southby.s3.get_bucket_replication(Bucket=southby.outputs["DataStore"])["ReplicationConfiguration"]["Rules"]
        self.assertEqual([rule["Destination"]["Bucket"] for rule in rules], [f"arn:aws:s3:::{southby.outputs['Backup']}"])
        [balancer] = southby.elbv2.describe_load_balancers()["LoadBalancers"]
        self.assertEqual(balancer["Scheme"], "internal")


class Texts(unittest.TestCase):
    def test_a_place_that_the_template_no_longer_has_or_has_twice_is_told(self):
        places = (('address = "{host}"', 'address = "here"', "there is no DNS"),)
        self.assertEqual(deployed.fitted("t", 'a = 1\naddress = "hub"\n', places, host="hub"), 'a = 1\naddress = "here"\n')
        for text in ("a = 1\n", 'address = "hub"\naddress = "hub"\n'):
            with self.assertRaisesRegex(Problem, "there is no DNS"):
                deployed.fitted("t", text, places, host="hub")
