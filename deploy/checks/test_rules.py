"""Each rule finds what it is for, and lets pass what is right: a planted violation, then the same mended."""

from __future__ import annotations

import unittest

from . import rules
from .template import Template, read

WHY = "The action knows no resource of its own"


def role(statement: str, metadata: str = "") -> str:
    return f"""
Description: One role
Resources:
  Role:
    Type: AWS::IAM::Role
    {metadata}
    Properties:
      Policies:
        - PolicyName: one
          PolicyDocument:
            Statement:
              - {statement}
"""


def endpoint(statement: str, metadata: str = "") -> str:
    return f"""
Description: One endpoint
Resources:
  Endpoint:
    Type: AWS::EC2::VPCEndpoint
    {metadata}
    Properties:
      PolicyDocument:
        Statement: [{statement}]
"""


class Planted(unittest.TestCase):
    def found(self, text: str) -> list[str]:
        return rules.findings([read(text, "planted.yaml")])

    def assert_finds(self, text: str, *words: str) -> None:
        found = self.found(text)
        self.assertEqual(len(found), 1, found)
        for word in words:
            self.assertIn(word, found[0])

    def assert_passes(self, text: str) -> None:
        self.assertEqual(self.found(text), [])

    def test_every_action(self) -> None:
        self.assert_finds(role('{ Sid: A, Effect: Allow, Action: "*", Resource: "arn:aws:s3:::b" }'), "Role", "the action *")
        self.assert_finds(role('{ Sid: A, Effect: Allow, Action: ["s3:GetObject", "*:*"], Resource: "arn:aws:s3:::b" }'), "*")

    def test_every_action_of_a_service(self) -> None:
        self.assert_finds(role('{ Sid: A, Effect: Allow, Action: "s3:*", Resource: "arn:aws:s3:::b" }'), "s3:*")
        wide = '{ Sid: A, Effect: Allow, Principal: { AWS: r }, Action: "s3:*", Resource: b'
        self.assert_finds(endpoint(f"{wide} }}"), "s3:*")
        self.assert_finds(endpoint(f'{wide}, Condition: {{ StringNotEquals: {{ "aws:PrincipalOrgID": o }} }} }}'), "s3:*")
        self.assert_passes(endpoint(f'{wide}, Condition: {{ StringEquals: {{ "aws:PrincipalOrgID": o }} }} }}'))

    def test_what_is_under_a_condition(self) -> None:
        either = '!If [Some, { Sid: A, Effect: Allow, Action: "*", Resource: r }, !Ref AWS::NoValue]'
        self.assert_finds(role(either), "the action *")
        one_of_two = '{ Sid: A, Effect: Allow, Action: !If [Some, "s3:GetObject", "*"], Resource: r }'
        self.assert_finds(role(one_of_two), "the action *")

    def test_all_but_a_few(self) -> None:
        self.assert_finds(role('{ Sid: A, Effect: Allow, NotAction: "iam:*", Resource: r }'), "NotAction")
        self.assert_finds(role('{ Sid: A, Effect: Allow, Action: "s3:GetObject", NotResource: r }'), "NotResource")
        self.assert_passes(role('{ Sid: A, Effect: Deny, NotAction: "iam:*", Resource: r }'))

    def test_every_resource(self) -> None:
        wide = '{ Sid: A, Effect: Allow, Action: "ecs:ListTasks", Resource: "*" }'
        self.assert_finds(role(wide), "Metadata.sfdata.wide.A")
        self.assert_finds(role(wide, "Metadata: { sfdata: { wide: { A: because } } }"), "Metadata.sfdata.wide.A")
        self.assert_passes(role(wide, f"Metadata: {{ sfdata: {{ wide: {{ A: {WHY} }} }} }}"))
        self.assert_passes(role(wide.replace("}", ", Condition: { ArnEquals: { c: d } } }")))
        among = '{ Sid: A, Effect: Allow, Action: "ecs:ListTasks", Resource: ["arn:aws:ecs:::x", "*"] }'
        self.assert_finds(role(among), '"*"')

    def test_anybody(self) -> None:
        for principal in ('"*"', '{ AWS: "*" }', '{ AWS: [a, "*"] }'):
            anybody = f"{{ Sid: A, Effect: Allow, Principal: {principal}, Action: 's3:GetObject', Resource: b"
            self.assert_finds(endpoint(f"{anybody} }}"), "Metadata.sfdata.public.A")
            self.assert_finds(
                endpoint(f'{anybody}, Condition: {{ StringEqualsIfExists: {{ "aws:PrincipalOrgID": o }} }} }}'), "public"
            )
            self.assert_passes(endpoint(f'{anybody}, Condition: {{ StringEquals: {{ "aws:PrincipalOrgID": o }} }} }}'))
            self.assert_passes(endpoint(f"{anybody} }}", f"Metadata: {{ sfdata: {{ public: {{ A: {WHY} }} }} }}"))

    def test_a_reason_for_nothing(self) -> None:
        narrow = '{ Sid: A, Effect: Allow, Action: "s3:GetObject", Resource: r }'
        self.assert_finds(role(narrow, f"Metadata: {{ sfdata: {{ wide: {{ B: {WHY} }} }} }}"), "B", "not there")
        self.assert_finds(role(narrow, f"Metadata: {{ sfdata: {{ broad: {{ A: {WHY} }} }} }}"), "broad")

    def test_a_suppression_without_a_reason(self) -> None:
        narrow = '{ Sid: A, Effect: Allow, Action: "s3:GetObject", Resource: r }'
        self.assert_finds(role(narrow, "Metadata: { checkov: { skip: [{ id: CKV_AWS_1 }] } }"), "CKV_AWS_1")
        self.assert_passes(role(narrow, f"Metadata: {{ checkov: {{ skip: [{{ id: CKV_AWS_1, comment: {WHY} }}] }} }}"))

    def test_managed_policies(self) -> None:
        for policy in ("AmazonS3FullAccess", "AdministratorAccess", "PowerUserAccess", "ReadOnlyAccess"):
            for arn in (f"arn:aws:iam::aws:policy/{policy}", f'!Sub "arn:${{AWS::Partition}}:iam::aws:policy/{policy}"'):
                text = f"""
Description: A role with a policy of AWS's own
Resources:
  Role: {{ Type: AWS::IAM::Role, Properties: {{ ManagedPolicyArns: [{arn}] }} }}
"""
                self.assert_finds(text, policy)

    def test_parameters(self) -> None:
        def parameter(text: str) -> str:
            return f"Description: One parameter\nParameters:\n  Name: {text}\n"

        described = "Description: What the thing is called"
        self.assert_finds(parameter("{ Type: String, AllowedValues: [a], Default: a }"), "not described")
        self.assert_finds(parameter(f"{{ Type: String, {described} }}"), "any text")
        self.assert_finds(parameter(f"{{ Type: String, {described}, AllowedPattern: a }}"), "ConstraintDescription")
        self.assert_passes(parameter(f"{{ Type: String, {described}, AllowedPattern: a, ConstraintDescription: an a }}"))

    def test_exports(self) -> None:
        def stack(name: str, export: str, imports: str) -> Template:
            value = f"!ImportValue {imports}" if imports else "x"
            return read(
                f"Description: A stack\nOutputs:\n  One:\n    Value: {value}\n    Export: {{ Name: {export} }}\n", name
            )

        def found(*stacks: tuple[str, str, str]) -> list[str]:
            return rules.findings([stack(*one) for one in stacks])

        self.assertEqual(found(("a", "from-a", ""), ("b", "from-b", "from-a")), [])
        self.assertIn("imports from-x", found(("a", "from-a", ""), ("b", "from-b", "from-x"))[0])
        self.assertIn("neither stack", found(("a", "from-a", "from-b"), ("b", "from-b", "from-a"))[0])
        self.assertIn("can't have both", found(("a", "same", ""), ("b", "same", ""))[0])

    def test_what_a_stack_set_hands_on(self) -> None:
        number = "Description: The number of an account, Type: Number"
        role = read(f"Description: A role\nParameters:\n  Account: {{ {number} }}\n", "role.yaml")

        def found(parameters: str, template: str = "role.yaml") -> list[str]:
            text = f"""
Description: A stack set
Resources:
  Set:
    Type: AWS::CloudFormation::StackSet
    Metadata: {{ sfdata: {{ template: {template} }} }}
    Properties: {{ Parameters: [{parameters}] }}
"""
            return rules.findings([role, read(text, "set.yaml")])

        account = "{ ParameterKey: Account, ParameterValue: 1 }"
        self.assertEqual(found(account), [])
        self.assertIn("does not hand on Account", found("")[0])
        self.assertIn("hands on Name", found(f"{account}, {{ ParameterKey: Name, ParameterValue: x }}")[0])
        self.assertIn("not here", found(account, "other.yaml")[0])


if __name__ == "__main__":
    unittest.main()
