"""A path that nobody meant is found, whichever way it comes; and one that is gone, and a rule that leads nowhere."""

from __future__ import annotations

import unittest

from . import reach
from .estate import Estate
from .template import load, read

TWO = """
Parameters:
  Wide: { Type: String, Default: "no" }
  Peer: { Type: CommaDelimitedList, Default: "10.1.0.0/16,10.2.0.0/16" }
Conditions:
  Wide: !Equals [!Ref Wide, "yes"]
Resources:
  Web:
    Type: AWS::EC2::SecurityGroup
    Properties:
      SecurityGroupIngress: [{ IpProtocol: tcp, FromPort: 443, ToPort: 443, CidrIp: !Select [1, !Ref Peer] }]
      SecurityGroupEgress: [{ IpProtocol: tcp, FromPort: 5432, ToPort: 5432, DestinationSecurityGroupId: !Ref Data }]
  Data:
    Type: AWS::EC2::SecurityGroup
    Properties:
      SecurityGroupEgress: [{ IpProtocol: "-1", CidrIp: 127.0.0.1/32 }]
  DataFromWeb:
    Type: AWS::EC2::SecurityGroupIngress
    Properties: { GroupId: !GetAtt Data.GroupId, SourceSecurityGroupId: !Ref Web, IpProtocol: tcp, FromPort: 5432, ToPort: 5432 }
"""
KNOWN = {
    ("two", reach.Way("Web", "Data", "tcp 5432")): "Files are found in the database",
    ("two", reach.Way("10.2.0.0/16", "Web", "tcp 443")): "People look at the page from there",
}


class Reach(unittest.TestCase):
    def found(self, planted: str = "", text: str = TWO, **given: str) -> list[str]:
        return reach.findings({"two": Estate([read(text + planted, "two.yaml")], given)}, KNOWN)

    def assert_new(self, path: str, planted: str, **given: str) -> None:
        found = self.found(planted, **given)
        self.assertEqual(len(found), 1, found)
        self.assertIn(f"a new path, {path}", found[0])

    def test_what_is_meant_passes(self) -> None:
        self.assertEqual(self.found(), [])

    def test_a_group_that_lets_in_everybody(self) -> None:
        self.assert_new("everywhere -> Data, tcp 22", """
  Planted:
    Type: AWS::EC2::SecurityGroupIngress
    Properties: { GroupId: !Ref Data, CidrIp: 0.0.0.0/0, IpProtocol: tcp, FromPort: 22, ToPort: 22 }
""")

    def test_a_rule_behind_a_condition(self) -> None:
        planted = """
  Planted:
    Type: AWS::EC2::SecurityGroupEgress
    Condition: Wide
    Properties: { GroupId: !Ref Data, CidrIp: 0.0.0.0/0, IpProtocol: "-1" }
"""
        self.assertEqual(self.found(planted), [])
        self.assert_new("Data -> everywhere, every port", planted, Wide="yes")

    def test_a_group_that_says_nothing_of_what_goes_out(self) -> None:
        self.assert_new("Planted -> everywhere, every port", "\n  Planted: { Type: AWS::EC2::SecurityGroup, Properties: {} }\n")

    def test_a_way_to_the_internet(self) -> None:
        self.assert_new("the network -> everywhere, AWS::EC2::NatGateway Planted", "\n  Planted: { Type: AWS::EC2::NatGateway }\n")
        self.assert_new("Table -> everywhere, GatewayId igw-1", """
  Planted:
    Type: AWS::EC2::Route
    Properties: { RouteTableId: x#Table, DestinationCidrBlock: 0.0.0.0/0, GatewayId: igw-1 }
""")

    def test_an_endpoint(self) -> None:
        self.assert_new("Web -> AWS ssm, interface endpoint", """
  Planted:
    Type: AWS::EC2::VPCEndpoint
    Properties: { VpcEndpointType: Interface, ServiceName: !Sub "com.amazonaws.${AWS::Region}.ssm", SecurityGroupIds: [!Ref Web] }
""")

    def test_a_load_balancer(self) -> None:
        found = self.found("""
  Planted:
    Type: AWS::ElasticLoadBalancingV2::LoadBalancer
    Properties: { Scheme: internet-facing, SecurityGroups: [!Ref Web] }
""")
        self.assertEqual(len(found), 2, found)
        self.assertIn("everywhere -> Planted, internet-facing", "".join(found))

    def test_a_task_in_a_group_of_another_s(self) -> None:
        self.assert_new("Planted -> Web, is in the group", """
  Planted:
    Type: AWS::ECS::Service
    Properties: { NetworkConfiguration: { AwsvpcConfiguration: { AssignPublicIp: DISABLED, SecurityGroups: [!Ref Web] } } }
""")

    def test_a_database_with_a_public_address(self) -> None:
        found = self.found("""
  Planted:
    Type: AWS::RDS::DBInstance
    Properties: { PubliclyAccessible: true, VPCSecurityGroups: [!Ref Data] }
""")
        self.assertIn("everywhere -> Planted, public address", "".join(found))

    def test_a_path_that_is_gone_and_the_rule_that_is_left_of_it(self) -> None:
        found = self.found(text=TWO[: TWO.index("  DataFromWeb")])
        self.assertEqual(len(found), 2, found)
        self.assertIn("which does not let it in", found[0])
        self.assertIn("a path is gone, Web -> Data", found[1])

    def test_a_path_without_a_reason(self) -> None:
        estate = {"two": Estate([read(TWO, "two.yaml")], {})}
        found = reach.findings(estate, {**KNOWN, next(iter(KNOWN)): "because"})
        self.assertEqual(len(found), 1, found)
        self.assertIn("has no reason", found[0])

    def test_the_templates_with_a_rule_planted(self) -> None:
        templates = load()
        network = next(one for one in templates if one.name == "child/network.yaml")
        network.resources["Planted"] = {"Type": "AWS::EC2::SecurityGroupIngress", "Properties": {
            "GroupId": {"Ref": "DatabaseGroup"}, "CidrIp": "10.0.0.0/8", "IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432}}
        found = reach.findings(reach.estates(templates), reach.meant(reach.KNOWN.read_text()))
        self.assertEqual({line.partition(":")[0] for line in found}, {"own", "shared", "doors", "adopted"}, found)
        self.assertTrue(all("10.0.0.0/8 -> DatabaseGroup, tcp 5432" in line for line in found), found)


if __name__ == "__main__":
    unittest.main()
