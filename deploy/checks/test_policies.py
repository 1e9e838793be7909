"""The comparison with deploy/iam: what is the same passes however it is written, and each way to differ is found."""

from __future__ import annotations

import unittest
from typing import Any

from . import policies
from .template import load, read

AGENT: dict[str, Any] = {
    "Sid": "Operate",
    "Effect": "Allow",
    "Action": ["ecs:DescribeServices", "ecs:UpdateService"],
    "Resource": "arn:aws:ecs:${region}:${account}:service/${cluster}/*",
    "Condition": {"StringEquals": {"kms:ViaService": "sqs.${region}.amazonaws.com"}},
}
QUEUE: dict[str, Any] = {
    "Sid": "Take",
    "Effect": "Allow",
    "Action": "sqs:ReceiveMessage",
    "Resource": "arn:aws:sqs:${region}:${account}:${arrivals}",
}
SAME = (
    "Effect: Allow, Action: [ecs:UpdateService, ecs:DescribeServices],"
    ' Resource: !Sub "arn:${AWS::Partition}:ecs:${AWS::Region}:${AWS::AccountId}:service/${Cluster}/*",'
    ' Condition: { StringEquals: { "kms:ViaService": !Sub "sqs.${AWS::Region}.amazonaws.com" } }'
)


def template(*statements: str) -> str:
    lines = "\n".join(f"          - {{ {statement} }}" for statement in statements)
    return f"""
Resources:
  Queue: {{ Type: AWS::SQS::Queue }}
  Topic: {{ Type: AWS::SNS::Topic }}
  Role: {{ Type: AWS::IAM::Role }}
  Policy:
    Type: AWS::IAM::ManagedPolicy
    Properties:
      Roles: [!Ref Role]
      PolicyDocument:
        Statement:
{lines}
"""


class Comparison(unittest.TestCase):
    def found(self, wanted: dict[str, Any], *statements: str) -> list[str]:
        return policies.findings([read(template(*statements), "one.yaml")], {"one.json": [wanted]})

    def assert_differs(self, change: tuple[str, str], word: str) -> None:
        self.assertIn(change[0], SAME)
        found = self.found(AGENT, f"Sid: Operate, {SAME.replace(*change)}")
        self.assertEqual(len(found), 1, found)
        self.assertIn(word, found[0])

    def test_the_same(self) -> None:
        self.assertEqual(self.found(AGENT, f"Sid: Operate, {SAME}"), [])
        named = SAME.replace("${Cluster}/*", "sfdata-${LaName}/*").replace("arn:${AWS::Partition}", "arn:aws")
        self.assertEqual(self.found(AGENT, f"Sid: Operate, {named}"), [])

    def test_another_effect(self) -> None:
        self.assert_differs(("Allow", "Deny"), "Effect")

    def test_more_and_fewer_actions(self) -> None:
        self.assert_differs(("[ecs:UpdateService,", "[ecs:UpdateService, ecs:DeleteService,"), "ecs:DeleteService")
        self.assert_differs(("[ecs:UpdateService,", "["), "does not allow ecs:UpdateService")

    def test_wider_resources(self) -> None:
        for change in [
            ("service/${Cluster}/*", "service/*"),
            ("service/${Cluster}/*", "*"),
            ("${Cluster}/*", "*/*"),
            ("${Cluster}/*", "all/*"),
            ("${Cluster}/*", "${Cluster}/${Other}/*"),
            ("${AWS::AccountId}", "*"),
            ("${AWS::AccountId}", "${Account}"),
            ("${AWS::Region}:${AWS::AccountId}", ":${AWS::AccountId}"),
        ]:
            with self.subTest(change):
                self.assert_differs(change, "its resources are")

    def test_one_resource_more(self) -> None:
        more = SAME.replace("Resource: ", 'Resource: ["arn:aws:ecs:::x", ').replace('/*",', '/*"],')
        self.assertIn("its resources are", self.found(AGENT, f"Sid: Operate, {more}")[0])

    def test_either_branch(self) -> None:
        either = 'Resource: !If [Some, !Sub "arn:aws:sqs:${AWS::Region}:${AWS::AccountId}:${Name}", %s]'
        rest = "Sid: Take, Effect: Allow, Action: sqs:ReceiveMessage, "
        self.assertEqual(self.found(QUEUE, rest + either % "!GetAtt Queue.Arn"), [])
        self.assertIn("its resources", self.found(QUEUE, rest + either % '"*"')[0])
        self.assertIn("its resources", self.found(QUEUE, rest + either % "!GetAtt Topic.Arn")[0])

    def test_other_conditions(self) -> None:
        self.assert_differs(("StringEquals", "StringLike"), "its conditions are")
        self.assert_differs(("sqs.$", "sns.$"), "its conditions are")
        without = SAME.partition(" Condition")[0].rstrip(",")
        self.assertIn("its conditions", self.found(AGENT, f"Sid: Operate, {without}")[0])

    def test_missing(self) -> None:
        self.assertIn("no template has the statement Operate", self.found(AGENT, f"Sid: Other, {SAME}")[0])

    def test_what_the_agent_has_beside(self) -> None:
        beside = 'Sid: Beside, Effect: Allow, Action: s3:GetObject, Resource: "arn:aws:s3:::b"'
        found = self.found(AGENT, f"Sid: Operate, {SAME}", beside)
        self.assertEqual(len(found), 1, found)
        self.assertIn("Beside", found[0])

    def test_a_key_that_is_given_whole(self) -> None:
        wanted = {
            "Sid": "Sign",
            "Effect": "Allow",
            "Action": "kms:Sign",
            "Resource": "arn:aws:kms:eu-west-2:111111111111:key/0",
        }
        rest = "Sid: Sign, Effect: Allow, Action: kms:Sign, Resource: "
        self.assertEqual(self.found(wanted, rest + "!Ref KeyArn"), [])
        for wider in ('"*"', '!Sub "arn:aws:kms:${AWS::Region}:${AWS::AccountId}:key/*"'):
            self.assertIn("its resources", self.found(wanted, rest + wider)[0])

    def test_what_no_template_gives(self) -> None:
        (file, *_) = policies.ELSEWHERE
        wanted = {file: [QUEUE]}
        given = "Sid: Take, Effect: Allow, Action: sqs:ReceiveMessage, Resource: !GetAtt Queue.Arn"
        self.assertEqual(policies.findings([read(template("Sid: Other, Effect: Allow"), "one.yaml")], wanted), [])
        self.assertIn("ELSEWHERE", policies.findings([read(template(given), "one.yaml")], wanted)[0])

    def test_roles_by_their_names(self) -> None:
        arn = "arn:aws:iam::${AWS::AccountId}:role/"
        (sid,) = policies.NARROWER
        wanted = {"Sid": sid, "Effect": "Allow", "Action": "iam:PassRole", "Resource": "arn:aws:iam::${account}:role/*"}
        rest = f"Sid: {sid}, Effect: Allow, Action: iam:PassRole, Resource: "
        self.assertEqual(self.found(wanted, rest + f'[!Sub "{arn}one", !Sub "{arn}two-2"]'), [])
        for wide in (f"{arn}*", f"{arn}one*", f"{arn}one/*", "arn:aws:iam::*:role/one", "*", "arn:aws:iam::${AWS::AccountId}:user/one"):
            self.assertIn("name them", self.found(wanted, rest + f'[!Sub "{arn}one", !Sub "{wide}"]')[0], wide)
        given = "Parameters:\n  Roles: { Type: CommaDelimitedList, AllowedPattern: '%s' }\n" + template(rest + "!Ref Roles")
        for allowed, right in ((r"arn:aws:iam::[0-9]{12}:role/[a-z]+\*?", True), (r"arn:aws:iam::[0-9]{12}:role/[a-z]*\*?", False), (".*", False)):
            found = policies.findings([read(given % allowed, "one.yaml")], {"one.json": [wanted]})
            self.assertEqual(found == [], right, allowed)

    def test_the_roles_of_tasks_and_no_others(self) -> None:
        self.assertEqual(policies.handed_on(load()), [])
        for gone, more, word in (("sfdata-agent-execution", "x", "can't hand on sfdata-agent-execution"), ("x", "sfdata-hub", "may hand on sfdata-hub")):
            templates = load()
            (role,) = (one for one in templates if one.name == "child/role.yaml")
            statements = role.resources["ServicesPolicy"]["Properties"]["PolicyDocument"]["Statement"]
            (resources,) = (one["Resource"] for one in statements if one["Sid"] in policies.NARROWER)
            resources[:] = [arn for arn in resources if not arn["Fn::Sub"].endswith(f"/{gone}")] + [f"arn:aws:iam::1:role/{more}"] * (more != "x")
            self.assertIn(word, "".join(policies.handed_on(templates)))

    def test_what_is_not_understood(self) -> None:
        odd = SAME.replace('!Sub "arn', '[!Select [0, [a, b]], [x], !Sub "arn').replace('/*",', '/*"],')
        self.assertIn("is not understood", self.found(AGENT, f"Sid: Operate, {odd}")[0])


if __name__ == "__main__":
    unittest.main()
