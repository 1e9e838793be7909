"""What is right passes, and each slip in it is found."""

from __future__ import annotations

import unittest

from . import tasks
from .template import read

RIGHT = """
Resources:
  Task:
    Type: AWS::ECS::TaskDefinition
    Properties:
      NetworkMode: awsvpc
      Volumes:
        - Name: store
          EFSVolumeConfiguration: { TransitEncryption: ENABLED, AuthorizationConfig: { IAM: ENABLED } }
      ContainerDefinitions:
        - Name: hub
          User: "10001"
          ReadonlyRootFilesystem: true
          Environment: [{ Name: LEVEL, Value: info }]
          LogConfiguration: { LogDriver: awslogs }
  Service:
    Type: AWS::ECS::Service
    Properties:
      TaskDefinition: !Ref Task
      NetworkConfiguration: { AwsvpcConfiguration: { AssignPublicIp: DISABLED } }
      DeploymentConfiguration:
        MinimumHealthyPercent: 0
        MaximumPercent: 100
        DeploymentCircuitBreaker: { Enable: true, Rollback: true }
  Group:
    Type: AWS::EC2::SecurityGroup
    Properties:
      SecurityGroupIngress: [{ IpProtocol: tcp, FromPort: 1, ToPort: 1, CidrIp: 10.0.0.0/8, Description: Callers }]
      SecurityGroupEgress: [{ IpProtocol: "-1", CidrIp: 127.0.0.1/32, Description: Nothing }]
  Rule:
    Type: AWS::EC2::SecurityGroupIngress
    Properties: { IpProtocol: tcp, FromPort: 2, ToPort: 2, CidrIp: 10.1.0.0/16, Description: Others }
"""
SLIPS = [
    ("NetworkMode: awsvpc", "NetworkMode: host", "awsvpc"),
    ("TransitEncryption: ENABLED", "TransitEncryption: DISABLED", "TransitEncryption"),
    ("IAM: ENABLED", "IAM: DISABLED", "IAM"),
    ("ReadonlyRootFilesystem: true", "ReadonlyRootFilesystem: false", "root file system"),
    ("ReadonlyRootFilesystem: true", "ReadonlyRootFilesystem: !If [Some, false, true]", "root file system"),
    ("          ReadonlyRootFilesystem: true\n", "", "root file system"),
    ('User: "10001"', 'User: "0:0"', "root"),
    ('          User: "10001"\n', "", "root"),
    ('User: "10001"', 'User: "10001"\n          Privileged: true', "privileged"),
    ("          LogConfiguration: { LogDriver: awslogs }\n", "", "log"),
    ("Name: LEVEL", "Name: DAGSTER_PG_PASSWORD", "DAGSTER_PG_PASSWORD"),
    ("AssignPublicIp: DISABLED", "AssignPublicIp: ENABLED", "public address"),
    ("AssignPublicIp: DISABLED", "AssignPublicIp: !If [Some, ENABLED, DISABLED]", "public address"),
    ("Rollback: true", "Rollback: false", "circuit breaker"),
    ("MaximumPercent: 100", "MaximumPercent: 200", "two may run"),
    ("CidrIp: 10.0.0.0/8", "CidrIp: 0.0.0.0/0", "0.0.0.0/0"),
    ("CidrIp: 10.0.0.0/8", "CidrIp: !If [Some, 10.0.0.0/8, 0.0.0.0/0]", "0.0.0.0/0"),
    ("CidrIp: 10.1.0.0/16", 'CidrIpv6: "::/0"', "::/0"),
    ("Properties: { IpProtocol: tcp", 'Properties: { IpProtocol: "-1"', "every protocol"),
    (", Description: Callers", "", "what it is for"),
    (", Description: Nothing", "", "what it is for"),
    ("SecurityGroupEgress:", "Other:", "what goes out"),
]


class Slips(unittest.TestCase):
    def found(self, text: str) -> list[str]:
        return tasks.findings([read(text, "one.yaml")])

    def test_what_is_right(self) -> None:
        self.assertEqual(self.found(RIGHT), [])

    def test_each_slip(self) -> None:
        for right, wrong, word in SLIPS:
            with self.subTest(wrong):
                self.assertIn(right, RIGHT)
                found = self.found(RIGHT.replace(right, wrong, 1))
                self.assertEqual(len(found), 1, found)
                self.assertIn(word, found[0])

    def test_a_reason(self) -> None:
        writable = RIGHT.replace("ReadonlyRootFilesystem: true", "ReadonlyRootFilesystem: false")
        reason = "    Metadata: { sfdata: { writable: { %s: It writes a cache beside its code } } }\n"
        task = "    Type: AWS::ECS::TaskDefinition\n"
        self.assertEqual(self.found(writable.replace(task, task + reason % "hub")), [])
        self.assertEqual(len(self.found(writable.replace(task, task + reason % "other"))), 2)
        whoever = RIGHT.replace('          User: "10001"\n', "")
        self.assertEqual(self.found(whoever.replace(task, task + reason.replace("writable", "user") % "hub")), [])


if __name__ == "__main__":
    unittest.main()
