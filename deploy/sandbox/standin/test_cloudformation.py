"""Tests of the stand-in's CloudFormation, over the wire: `PYTHONPATH=deploy/sandbox python -m unittest standin.test_cloudformation`.

What a stack made is asked of the services themselves, never of CloudFormation. Each test has an account of its own.
"""

import itertools
import json
import time
import unittest

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from . import test_standin
from .test_standin import wait_for

numbers = itertools.count(1)
ASSUME = {"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "ecs-tasks.amazonaws.com"}}]}
NETWORK = {
    "Vpc": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.1.0.0/16", "EnableDnsHostnames": True}},
    **{f"Subnet{zone}": {"Type": "AWS::EC2::Subnet", "Properties": {
        "VpcId": {"Ref": "Vpc"}, "AvailabilityZone": {"Fn::Select": [zone, {"Fn::GetAZs": ""}]},
        "CidrBlock": {"Fn::Select": [zone, {"Fn::Cidr": ["10.1.0.0/16", 2, 8]}]}}} for zone in (0, 1)},
    "Group": {"Type": "AWS::EC2::SecurityGroup", "Properties": {
        "GroupDescription": "of a test", "VpcId": {"Ref": "Vpc"},
        "SecurityGroupEgress": [{"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "CidrIp": "10.1.0.0/16"}]}},
}
SUBNETS = [{"Ref": "Subnet0"}, {"Ref": "Subnet1"}]


def setUpModule():
    test_standin.setUpModule()


def tearDownModule():
    test_standin.tearDownModule()


class Account:
    """A fresh account, or one that there is."""

    def __init__(self, id=None):
        self.id = id or f"5{next(numbers):011}"
        keys = boto3.client(
            "sts", endpoint_url=test_standin.url, region_name="eu-west-2", aws_access_key_id="anybody",
            aws_secret_access_key="none").assume_role(
                RoleArn=f"arn:aws:iam::{self.id}:role/engineer", RoleSessionName="test")["Credentials"]
        self.keys = {"aws_access_key_id": keys["AccessKeyId"], "aws_secret_access_key": keys["SecretAccessKey"],
                     "aws_session_token": keys["SessionToken"]}
        self.cloudformation = self.client("cloudformation")

    def client(self, name):
        return boto3.client(name, endpoint_url=test_standin.url, region_name="eu-west-2", **self.keys,
                            config=Config(retries={"max_attempts": 0, "mode": "standard"}, s3={"addressing_style": "path"}))

    def deploy(self, resources, name="estate", outputs=None, parameters=None, update=False, **given):
        template = {"Resources": resources, "Outputs": outputs or {}, "Parameters": parameters or {}}
        call = self.cloudformation.update_stack if update else self.cloudformation.create_stack
        call(StackName=name, TemplateBody=json.dumps(template), Parameters=[
            {"ParameterKey": key, "ParameterValue": value} for key, value in given.items()])
        return self.stack(name)

    def stack(self, name="estate"):
        stack = self.cloudformation.describe_stacks(StackName=name)["Stacks"][0]
        stack["told"] = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
        return stack

    def made(self, resources, **more):
        """Outputs of a stack that has to be made."""
        stack = self.deploy(resources, **more)
        if not stack["StackStatus"].endswith(("CREATE_COMPLETE", "UPDATE_COMPLETE")):
            raise AssertionError(f"{stack['StackStatus']}: {stack.get('StackStatusReason')}")
        return stack["told"]


class Stacks(unittest.TestCase):
    def setUp(self):
        self.account = Account()

    def assert_fails(self, resources, *words, **more):
        stack = self.account.deploy(resources, **more)
        self.assertEqual(stack["StackStatus"], "ROLLBACK_COMPLETE")
        for word in words:
            self.assertIn(word, stack["StackStatusReason"])

    def test_a_type_that_is_not_known_fails_the_stack_and_takes_back_what_it_made(self):
        self.assert_fails({"Data": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "taken-back"}},
                           "Odd": {"Type": "AWS::Neptune::DBCluster", "DependsOn": "Data"}}, "[Odd]", "AWS::Neptune::DBCluster")
        self.assertEqual(self.account.client("s3").list_buckets()["Buckets"], [])

    def test_a_property_that_nobody_takes_fails_the_stack(self):
        self.assert_fails({"Data": {"Type": "AWS::S3::Bucket", "Properties": {"Versioning": True}}}, "[Data]", "Versioning")
        self.assert_fails({"Queue": {"Type": "AWS::SQS::Queue", "Properties": {"Colour": "red"}}}, "Colour", name="second")

    def test_a_misspelt_part_of_a_container_fails_the_stack(self):
        container = {"Name": "app", "Image": "i", "Environement": []}
        self.assert_fails({"Task": {"Type": "AWS::ECS::TaskDefinition", "Properties": {"ContainerDefinitions": [container]}}},
                          "Environement")

    def test_references_to_nothing_fail_the_stack(self):
        self.assert_fails({"Queue": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": {"Ref": "Nobody"}}}}, "Nobody")
        self.assert_fails({"Queue": {"Type": "AWS::SQS::Queue"}}, "Colour", name="second",
                          outputs={"Out": {"Value": {"Fn::GetAtt": ["Queue", "Colour"]}}})

    def test_an_alias_of_yaml_is_refused_as_cloudformation_does(self):
        body = "Resources:\n  One: &one { Type: AWS::SQS::Queue }\n  Other: *one\n"
        with self.assertRaisesRegex(ClientError, "aliases"):
            self.account.cloudformation.create_stack(StackName="estate", TemplateBody=body)

    def test_parameters_are_judged_before_anything_is_made(self):
        slots = {"Name": {"Type": "String", "AllowedPattern": "[a-z]+"}}
        for given in ({"Name": "Bad1"}, {"Name": "good", "More": "x"}, {}):
            with self.assertRaises(ClientError):
                self.account.deploy({"Queue": {"Type": "AWS::SQS::Queue"}}, parameters=slots, **given)

    def test_exports_are_imported_by_another_stack(self):
        self.account.made({"Queue": {"Type": "AWS::SQS::Queue"}}, outputs={
            "Arn": {"Value": {"Fn::GetAtt": ["Queue", "Arn"]}, "Export": {"Name": "queue-arn"}}})
        told = self.account.made({"Topic": {"Type": "AWS::SNS::Topic", "Properties": {"Subscription": [
            {"Protocol": "sqs", "Endpoint": {"Fn::ImportValue": "queue-arn"}}]}}}, name="second",
            outputs={"Arn": {"Value": {"Ref": "Topic"}}})
        [found] = self.account.client("sns").list_subscriptions_by_topic(TopicArn=told["Arn"])["Subscriptions"]
        self.assertRegex(found["Endpoint"], "^arn:aws:sqs:")

    def test_a_stack_that_is_deleted_leaves_only_what_it_retains(self):
        self.account.made({"Kept": {"Type": "AWS::S3::Bucket", "DeletionPolicy": "Retain", "Properties": {"BucketName": "kept"}},
                           "Gone": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "gone-with-it"}}, **NETWORK})
        self.account.cloudformation.delete_stack(StackName="estate")
        self.assertEqual([one["Name"] for one in self.account.client("s3").list_buckets()["Buckets"]], ["kept"])
        vpcs = self.account.client("ec2").describe_vpcs(Filters=[{"Name": "cidr", "Values": ["10.1.0.0/16"]}])["Vpcs"]
        self.assertEqual(vpcs, [])


    def test_a_stack_set_brings_its_template_to_every_account_of_a_unit_and_tells_what_fails(self):
        organisations = self.account.client("organizations")
        organisations.create_organization(FeatureSet="ALL")
        [root] = organisations.list_roots()["Roots"]
        unit = organisations.create_organizational_unit(ParentId=root["Id"], Name="LAs")["OrganizationalUnit"]["Id"]
        account = organisations.create_account(AccountName="one", Email="one@example.org")["CreateAccountStatus"]["AccountId"]
        organisations.move_account(AccountId=account, SourceParentId=root["Id"], DestinationParentId=unit)

        def roll_out(name, resources):
            return {"Set": {"Type": "AWS::CloudFormation::StackSet", "Properties": {
                "StackSetName": name, "PermissionModel": "SERVICE_MANAGED",
                "TemplateBody": json.dumps({"Resources": resources}),
                "StackInstancesGroup": [{"Regions": ["eu-west-2"], "DeploymentTargets": {"OrganizationalUnitIds": [unit]}}]}}}

        self.account.made(roll_out("roles", {"Role": {"Type": "AWS::IAM::Role", "Properties": {
            "RoleName": "sfdata-agent", "AssumeRolePolicyDocument": ASSUME}}}))
        role = Account(account).client("iam").get_role(RoleName="sfdata-agent")["Role"]
        self.assertIn(account, role["Arn"])
        self.assert_fails(roll_out("odd", {"Odd": {"Type": "AWS::Odd::Thing"}}), account, "AWS::Odd::Thing", name="second")


class Resources(unittest.TestCase):
    def setUp(self):
        self.account = Account()

    def test_a_bucket_is_all_that_its_template_says(self):
        self.account.made({"Key": {"Type": "AWS::KMS::Key", "Properties": {"KeyPolicy": {}, "EnableKeyRotation": True}},
                           "Data": {"Type": "AWS::S3::Bucket", "Properties": {
                               "BucketName": f"data-{self.account.id}", "VersioningConfiguration": {"Status": "Enabled"},
                               "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
                               "PublicAccessBlockConfiguration": dict.fromkeys(
                                   ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"), True),
                               "BucketEncryption": {"ServerSideEncryptionConfiguration": [{
                                   "BucketKeyEnabled": True, "ServerSideEncryptionByDefault": {
                                       "SSEAlgorithm": "aws:kms", "KMSMasterKeyID": {"Fn::GetAtt": "Key.Arn"}}}]},
                               "LifecycleConfiguration": {"Rules": [{
                                   "Id": "old", "Status": "Enabled", "NoncurrentVersionExpiration": {"NoncurrentDays": 90},
                                   "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}}]}}},
                           "Policy": {"Type": "AWS::S3::BucketPolicy", "Properties": {
                               "Bucket": {"Ref": "Data"}, "PolicyDocument": {"Version": "2012-10-17", "Statement": [{
                                   "Effect": "Deny", "Principal": "*", "Action": "s3:*",
                                   "Resource": {"Fn::Sub": "${Data.Arn}/*"},
                                   "Condition": {"Bool": {"aws:SecureTransport": False}}}]}}}})
        s3, bucket = self.account.client("s3"), f"data-{self.account.id}"
        self.assertEqual(s3.get_bucket_versioning(Bucket=bucket)["Status"], "Enabled")
        self.assertTrue(all(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values()))
        [rule] = s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]["Rules"]
        self.assertEqual(rule["ObjectOwnership"], "BucketOwnerEnforced")
        [rule] = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
        self.assertEqual((rule["BucketKeyEnabled"], rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"]), (True, "aws:kms"))
        [rule] = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
        self.assertEqual((rule["ID"], rule["NoncurrentVersionExpiration"]["NoncurrentDays"]), ("old", 90))
        self.assertIn(f"arn:aws:s3:::{bucket}/*", s3.get_bucket_policy(Bucket=bucket)["Policy"])

    def test_a_file_reaches_the_queue_through_eventbridge(self):
        bucket = f"told-{self.account.id}"
        told = self.account.made({
            "Data": {"Type": "AWS::S3::Bucket", "Properties": {
                "BucketName": bucket, "NotificationConfiguration": {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}}},
            "Queue": {"Type": "AWS::SQS::Queue", "Properties": {"SqsManagedSseEnabled": True, "VisibilityTimeout": 43200}},
            "Letters": {"Type": "AWS::SQS::QueuePolicy", "Properties": {"Queues": [{"Ref": "Queue"}], "PolicyDocument": {
                "Version": "2012-10-17", "Statement": []}}},
            "Rule": {"Type": "AWS::Events::Rule", "Properties": {
                "EventPattern": {"source": ["aws.s3"], "detail-type": ["Object Created"], "detail": {"bucket": {"name": [bucket]}}},
                "Targets": [{"Id": "queue", "Arn": {"Fn::GetAtt": ["Queue", "Arn"]}}]}}}, outputs={"Url": {"Value": {"Ref": "Queue"}}})
        self.account.client("s3").put_object(Bucket=bucket, Key="ssda903/a.csv", Body=b"x")
        sqs = self.account.client("sqs")
        [message] = wait_for(lambda: sqs.receive_message(QueueUrl=told["Url"]).get("Messages"))
        self.assertEqual(json.loads(message["Body"])["detail"]["object"]["key"], "ssda903/a.csv")
        self.assertEqual(sqs.get_queue_attributes(QueueUrl=told["Url"], AttributeNames=["VisibilityTimeout"])[
            "Attributes"]["VisibilityTimeout"], "43200")

    def test_aurora_may_fall_to_nothing_and_its_password_is_a_secret(self):
        told = self.account.made({
            **NETWORK, "Subnets": {"Type": "AWS::RDS::DBSubnetGroup", "Properties": {
                "DBSubnetGroupDescription": "Dagster's", "SubnetIds": SUBNETS}},
            "Secret": {"Type": "AWS::SecretsManager::Secret", "Properties": {"GenerateSecretString": {
                "SecretStringTemplate": '{"username": "dagster"}', "GenerateStringKey": "password", "ExcludePunctuation": True}}},
            "Cluster": {"Type": "AWS::RDS::DBCluster", "Properties": {
                "DBClusterIdentifier": "store", "Engine": "aurora-postgresql", "EngineVersion": "16.4",
                "MasterUsername": {"Fn::Sub": "{{resolve:secretsmanager:${Secret}:SecretString:username}}"},
                "MasterUserPassword": {"Fn::Sub": "{{resolve:secretsmanager:${Secret}:SecretString:password}}"},
                "DBSubnetGroupName": {"Ref": "Subnets"}, "VpcSecurityGroupIds": [{"Ref": "Group"}], "StorageEncrypted": True,
                "ServerlessV2ScalingConfiguration": {"MinCapacity": 0, "MaxCapacity": 2, "SecondsUntilAutoPause": 300}}},
            "Instance": {"Type": "AWS::RDS::DBInstance", "Properties": {
                "DBClusterIdentifier": {"Ref": "Cluster"}, "DBInstanceClass": "db.serverless", "Engine": "aurora-postgresql"}},
            "Attached": {"Type": "AWS::SecretsManager::SecretTargetAttachment", "Properties": {
                "SecretId": {"Ref": "Secret"}, "TargetType": "AWS::RDS::DBCluster", "TargetId": {"Ref": "Cluster"}}}},
            outputs={"Secret": {"Value": {"Ref": "Secret"}}, "Host": {"Value": {"Fn::GetAtt": "Cluster.Endpoint.Address"}}})
        [cluster] = self.account.client("rds").describe_db_clusters(DBClusterIdentifier="store")["DBClusters"]
        scaling = cluster["ServerlessV2ScalingConfiguration"]
        self.assertEqual((scaling["MinCapacity"], scaling["SecondsUntilAutoPause"]), (0, 300))
        self.assertTrue(cluster["StorageEncrypted"])
        self.assertEqual(len(cluster["DBClusterMembers"]), 1)
        value = json.loads(self.account.client("secretsmanager").get_secret_value(SecretId=told["Secret"])["SecretString"])
        self.assertEqual((value["username"], value["host"], len(value["password"])), ("dagster", told["Host"], 32))
        self.assertEqual(cluster["MasterUsername"], "dagster")

    def daemon(self, cpu=512, desired=0, image="dagster:1"):
        return {
            **NETWORK, "Cluster": {"Type": "AWS::ECS::Cluster", "Properties": {
                "ClusterName": "platform", "ClusterSettings": [{"Name": "containerInsights", "Value": "disabled"}]}},
            "Providers": {"Type": "AWS::ECS::ClusterCapacityProviderAssociations", "Properties": {
                "Cluster": {"Ref": "Cluster"}, "CapacityProviders": ["FARGATE", "FARGATE_SPOT"],
                "DefaultCapacityProviderStrategy": []}},
            "Role": {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": ASSUME, "Policies": [
                {"PolicyName": "p", "PolicyDocument": {"Version": "2012-10-17", "Statement": [
                    {"Effect": "Allow", "Action": "sqs:ReceiveMessage", "Resource": "*"}]}}]}},
            "Files": {"Type": "AWS::EFS::FileSystem", "Properties": {"Encrypted": True}},
            "Target": {"Type": "AWS::EFS::MountTarget", "Properties": {
                "FileSystemId": {"Ref": "Files"}, "SubnetId": {"Ref": "Subnet0"}, "SecurityGroups": [{"Ref": "Group"}]}},
            "Point": {"Type": "AWS::EFS::AccessPoint", "Properties": {"FileSystemId": {"Ref": "Files"}}},
            "Logs": {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": "/platform", "RetentionInDays": 90}},
            "Task": {"Type": "AWS::ECS::TaskDefinition", "Properties": {
                "Family": "daemon", "Cpu": cpu, "Memory": "1024", "NetworkMode": "awsvpc",
                "RequiresCompatibilities": ["FARGATE"], "RuntimePlatform": {"CpuArchitecture": "ARM64"},
                "TaskRoleArn": {"Fn::GetAtt": ["Role", "Arn"]}, "ExecutionRoleArn": {"Fn::GetAtt": ["Role", "Arn"]},
                "Volumes": [{"Name": "data", "EFSVolumeConfiguration": {
                    "FilesystemId": {"Ref": "Files"}, "TransitEncryption": "ENABLED",
                    "AuthorizationConfig": {"AccessPointId": {"Ref": "Point"}, "IAM": "ENABLED"}}}],
                "ContainerDefinitions": [{
                    "Name": "daemon", "Image": image, "Essential": True, "ReadonlyRootFilesystem": True,
                    "MountPoints": [{"SourceVolume": "data", "ContainerPath": "/data"}],
                    "Environment": [{"Name": "BUCKET", "Value": "s3://b"}],
                    "Secrets": [{"Name": "PASSWORD", "ValueFrom": "arn:aws:secretsmanager:eu-west-2:1:secret:s:password::"}],
                    "LogConfiguration": {"LogDriver": "awslogs", "Options": {"awslogs-group": {"Ref": "Logs"}}}}]}},
            "Daemon": {"Type": "AWS::ECS::Service", "Properties": {
                "ServiceName": "daemon", "Cluster": {"Ref": "Cluster"}, "TaskDefinition": {"Ref": "Task"},
                "DesiredCount": {"Ref": "AWS::NoValue"} if desired is None else desired,
                "CapacityProviderStrategy": [{"CapacityProvider": "FARGATE_SPOT", "Weight": 1}],
                "DeploymentConfiguration": {"MinimumHealthyPercent": 0, "MaximumPercent": 100,
                                            "DeploymentCircuitBreaker": {"Enable": True, "Rollback": True}},
                "NetworkConfiguration": {"AwsvpcConfiguration": {
                    "Subnets": SUBNETS, "SecurityGroups": [{"Ref": "Group"}], "AssignPublicIp": "DISABLED"}}}}}

    def service(self):
        return self.account.client("ecs").describe_services(cluster="platform", services=["daemon"])["services"][0]

    def test_a_service_and_its_tasks_are_all_that_the_template_says(self):
        self.account.made(self.daemon())
        service = self.service()
        self.assertEqual((service["desiredCount"], service["capacityProviderStrategy"][0]["capacityProvider"]), (0, "FARGATE_SPOT"))
        shape = service["deploymentConfiguration"]
        self.assertEqual((shape["minimumHealthyPercent"], shape["maximumPercent"]), (0, 100))
        self.assertEqual(shape["deploymentCircuitBreaker"], {"enable": True, "rollback": True})
        network = service["networkConfiguration"]["awsvpcConfiguration"]
        self.assertEqual((len(network["subnets"]), len(network["securityGroups"]), network["assignPublicIp"]), (2, 1, "DISABLED"))
        task = self.account.client("ecs").describe_task_definition(taskDefinition=service["taskDefinition"])["taskDefinition"]
        self.assertEqual((task["cpu"], task["networkMode"], task["runtimePlatform"]), ("512", "awsvpc", {"cpuArchitecture": "ARM64"}))
        self.assertRegex(task["taskRoleArn"], f"^arn:aws:iam::{self.account.id}:role/")
        [container] = task["containerDefinitions"]
        self.assertEqual(container["secrets"][0]["name"], "PASSWORD")
        self.assertEqual(container["logConfiguration"]["options"], {"awslogs-group": "/platform"})
        self.assertTrue(container["readonlyRootFilesystem"])
        volume = task["volumes"][0]["efsVolumeConfiguration"]
        self.assertEqual((volume["transitEncryption"], volume["authorizationConfig"]["iam"]), ("ENABLED", "ENABLED"))
        [group] = self.account.client("logs").describe_log_groups(logGroupNamePrefix="/platform")["logGroups"]
        self.assertEqual(group["retentionInDays"], 90)

    def test_an_update_rolls_the_service_and_sends_a_count_only_where_the_template_says_one(self):
        self.account.made(self.daemon())
        self.account.client("ecs").update_service(cluster="platform", service="daemon", desiredCount=1)
        self.account.made(self.daemon(image="dagster:2", desired=None), update=True)
        service = self.service()
        self.assertEqual(service["desiredCount"], 1)
        self.assertRegex(service["taskDefinition"], "daemon:2$")
        self.account.made(self.daemon(image="dagster:3"), update=True)
        self.assertEqual(self.service()["desiredCount"], 0)
        vpcs = self.account.client("ec2").describe_vpcs(Filters=[{"Name": "cidr", "Values": ["10.1.0.0/16"]}])["Vpcs"]
        self.assertEqual(len(vpcs), 1)

    def test_groups_let_out_only_what_they_name_and_an_endpoint_service_is_reached(self):
        told = self.account.made({
            **NETWORK, "Balancer": {"Type": "AWS::ElasticLoadBalancingV2::LoadBalancer", "Properties": {
                "Type": "network", "Scheme": "internal", "Subnets": SUBNETS}},
            "Hub": {"Type": "AWS::ElasticLoadBalancingV2::TargetGroup", "Properties": {
                "Protocol": "TCP", "Port": 7443, "TargetType": "ip", "VpcId": {"Ref": "Vpc"}}},
            "Listener": {"Type": "AWS::ElasticLoadBalancingV2::Listener", "Properties": {
                "LoadBalancerArn": {"Ref": "Balancer"}, "Port": 7443, "Protocol": "TCP",
                "DefaultActions": [{"Type": "forward", "TargetGroupArn": {"Ref": "Hub"}}]}},
            "Service": {"Type": "AWS::EC2::VPCEndpointService", "Properties": {
                "NetworkLoadBalancerArns": [{"Ref": "Balancer"}], "AcceptanceRequired": False}},
            "Endpoint": {"Type": "AWS::EC2::VPCEndpoint", "Properties": {
                "VpcId": {"Ref": "Vpc"}, "VpcEndpointType": "Interface", "SubnetIds": SUBNETS,
                "SecurityGroupIds": [{"Ref": "Group"}],
                "ServiceName": {"Fn::Sub": "com.amazonaws.vpce.${AWS::Region}.${Service}"}}}},
            outputs={"Name": {"Value": {"Fn::Select": [1, {"Fn::Split": [":", {"Fn::Select": [0, {
                "Fn::GetAtt": ["Endpoint", "DnsEntries"]}]}]}]}}, "Group": {"Value": {"Ref": "Group"}}})
        self.assertRegex(told["Name"], r"^vpce-.+\.vpce\.amazonaws\.com$")
        [group] = self.account.client("ec2").describe_security_groups(GroupIds=[told["Group"]])["SecurityGroups"]
        self.assertEqual([rule["IpRanges"][0]["CidrIp"] for rule in group["IpPermissionsEgress"]], ["10.1.0.0/16"])
