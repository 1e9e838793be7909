#!/usr/bin/env python3
"""Verify a command's proof from proto/FORMAT.md alone, with none of this project's code.

    verify.py FILE --root-pin DIGEST

Prints what was found, one line each; exits with 1 at the first thing that does not hold. Needs the package `cryptography`.
"""

import argparse
import base64
import hashlib
import json
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

TYPE = "application/vnd.sfdata.{}.v1+protobuf"
READ, OPERATE, CHANGE, DATA, DESTROY = range(5)
ROLES = {1: {READ}, 2: {READ, OPERATE}, 3: {READ, OPERATE, CHANGE}, 4: {READ, DATA}, 5: {READ, OPERATE, CHANGE, DATA, DESTROY}}
OUTCOMES = {1: "succeeded", 2: "failed", 3: "refused", 4: "expired", 5: "cancelled"}


class Wrong(Exception):
    pass


def need(holds, what):
    if not holds:
        raise Wrong(what)


def sha256(data):
    return hashlib.sha256(data).digest()


def varint(data, at):
    value = shift = 0
    while True:
        need(at < len(data) and shift < 70, "a number in a message has no end")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value & (2**64 - 1), at


def message(data):
    """The fields of a protobuf message: number to list of values, each an int or bytes; and where each field begins."""
    fields, starts, at = {}, [], 0
    while at < len(data):
        start = at
        tag, at = varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = varint(data, at)
        else:
            need(kind in (1, 2, 5), "a message has a field of an unknown kind")
            size, at = varint(data, at) if kind == 2 else ((8 if kind == 1 else 4), at)
            need(at + size <= len(data), "a message is cut off")
            value, at = data[at : at + size], at + size
        fields.setdefault(number, []).append(value)
        starts.append((number, start))
    return fields, starts


def one(fields, number, default):
    return fields.get(number, [default])[-1]


def text(fields, number):
    return one(fields, number, b"").decode()


def key_id(key):
    return sha256(key).hex()[:16]


class Envelope:
    def __init__(self, dsse, kind):
        self.payload = base64.b64decode(dsse["payload"], validate=True)
        self.signatures = [(s["keyid"], base64.b64decode(s["sig"], validate=True)) for s in dsse["signatures"]]
        need(dsse["payloadType"] == TYPE.format(kind), f"the envelope is not of a {kind}")
        name = TYPE.format(kind).encode()
        self.signed = b"DSSEv1 %d %s %d %s" % (len(name), name, len(self.payload), self.payload)

    def is_signed_by(self, key):
        signature = next((signature for of, signature in self.signatures if of == key_id(key)), None)
        if signature is None:
            return False
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, self.signed)
            return True
        except InvalidSignature:
            return False


class Bundle:
    def __init__(self, dsse):
        self.envelope = Envelope(dsse, "trust-bundle")
        fields, _ = message(self.envelope.payload)
        root, _ = message(one(fields, 4, b""))
        self.version, self.domain = one(fields, 1, 0), text(fields, 2)
        self.roots, self.threshold = root.get(1, []), one(root, 2, 0)
        need(0 < self.threshold <= len(self.roots), "a bundle's threshold makes no sense")
        self.operators = []
        for operator in fields.get(5, []):
            member, _ = message(operator)
            roles = [role for packed in member.get(3, []) for role in numbers(packed)]
            self.operators.append((text(member, 1), one(member, 2, b""), roles, one(member, 4, 0)))
        self.dispatch_keys = fields.get(6, [])

    def pin(self):
        return sha256(f"sfdata root keys v1 {self.threshold}".encode() + b"".join(sorted(self.roots)))

    def approves(self, envelope):
        return sum(envelope.is_signed_by(key) for key in set(self.roots)) >= self.threshold


def numbers(packed):
    if isinstance(packed, int):
        return [packed]
    found, at = [], 0
    while at < len(packed):
        number, at = varint(packed, at)
        found.append(number)
    return found


def trusted(proof, pin):
    chain = []
    for dsse in proof["trust_bundles"]:
        bundle = Bundle(dsse)
        if not chain:
            if bundle.pin() != pin:
                continue
        else:
            last = chain[-1]
            need(bundle.version == last.version + 1 and bundle.domain == last.domain, "the bundles do not follow each other")
            need(last.approves(bundle.envelope), f"bundle {bundle.version} is not signed by the roots before it")
        need(bundle.approves(bundle.envelope), f"bundle {bundle.version} is not signed by its own roots")
        chain.append(bundle)
    need(chain, "no bundle has the root keys that are pinned")
    return chain


def action_class(command):
    """The class of what can't be taken back; None for all else, whose class this verifier does not need to know exactly."""
    action, _ = message(one(command, 2, b""))
    for aurora in action.get(2, []):
        if one(command, 9, 0) == 0 and DELETE_SNAPSHOT in message(aurora)[0]:
            return DESTROY
    return None


DELETE_SNAPSHOT = 7  # AuroraAction.delete_snapshot


def ordered(proof, bundles):
    envelope = Envelope(proof["command"], "command")
    command, _ = message(envelope.payload)
    bundle = next((bundle for bundle in bundles if bundle.version >= one(command, 8, 0)), bundles[-1])
    signers = []
    for name, key, roles, expires in bundle.operators:
        if any(of == key_id(key) for of, _ in envelope.signatures):
            need(envelope.is_signed_by(key), f"the signature is not {name}'s")
            need(expires > one(command, 4, 0), f"{name}'s key had expired")
            signers.append((name, roles))
    author = text(command, 6)
    need(any(name == author for name, _ in signers), f"{author} did not sign the command")
    wanted = action_class(command)
    if wanted is not None:
        may = {name for name, roles in signers if any(wanted in ROLES.get(role, ()) for role in roles)}
        need(author in may and len(may) >= 2, "it can't be taken back, and fewer than two operators who may do it signed it")
    others = sorted({name for name, _ in signers} - {author})
    print(f"operator: {author} ordered it" + (f", also signed by {', '.join(others)}" if others else ""))
    return envelope, command


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("--root-pin", required=True, help="digest of the root keys, in hexadecimal digits")
    options = parser.parse_args()
    with open(options.file, encoding="utf-8") as file:
        proof = json.load(file)
    need(proof["format"] == "sfdata-proof-v1", "the file has another format")

    bundles = trusted(proof, bytes.fromhex(options.root_pin))
    print(f"trust: bundles {bundles[0].version} to {bundles[-1].version}")
    envelope, command = ordered(proof, bundles)
    digest, identity = sha256(envelope.payload), text(command, 1)
    wanted = [("command.submitted", digest)]
    for target in proof["targets"]:
        agent, place = target["agent_id"], None
        need(agent.encode() in command.get(3, []), f"{agent} is not a target of the command")
        if target["dispatch"]:
            dispatch = Envelope(target["dispatch"], "dispatch")
            keys = [key for bundle in bundles for key in bundle.dispatch_keys]
            need(any(dispatch.is_signed_by(key) for key in keys), f"the dispatch to {agent} is not signed by a hub that counts")
            said, _ = message(dispatch.payload)
            same = (text(said, 1), text(said, 4), one(said, 5, b""), one(said, 7, 0)) == (agent, identity, digest, 0)
            need(same, f"the dispatch to {agent} is about something else")
            place = (one(said, 2, 0), one(said, 3, 0))
            print(f"dispatch: {agent}, place {place[0]}.{place[1]}")
        if target["receipt"]:
            need(place, f"{agent} gave a receipt, and there is no dispatch")
            receipt = Envelope(target["receipt"], "receipt")
            key = target["receipt_key"].removeprefix("ed25519:")
            key = base64.urlsafe_b64decode(key + "=" * (-len(key) % 4))
            need(receipt.is_signed_by(key), f"the receipt is not signed by {agent}'s key")
            said, _ = message(receipt.payload)
            same = (text(said, 1), (one(said, 2, 0), one(said, 3, 0)), text(said, 4), one(said, 5, b""))
            need(same == (agent, place, identity, digest), f"the receipt of {agent} is about something else")
            kinds = [OUTCOMES.get(number) for number in message(one(said, 6, b""))[0]]
            need(len(kinds) == 1 and kinds[0], f"the receipt of {agent} has no outcome")
            wanted.append((f"command.{kinds[0]}", sha256(receipt.payload)))
            print(f"receipt: {agent}, {kinds[0]}")

    found, last = set(), None
    entries = [base64.b64decode(entry, validate=True) for entry in proof["audit"]]
    for entry in entries:
        fields, starts = message(entry)
        need(starts and starts[-1][0] == 9, "an audit entry has no hash at its end")
        bare, previous, index = entry[: starts[-1][1]], one(fields, 2, b""), one(fields, 1, 0)
        need(sha256(previous + bare) == one(fields, 9, b""), f"audit entry {index} does not have its hash")
        if last is not None and index == last[0] + 1:
            need(previous == last[1], f"audit entry {index} does not follow the one before it")
        need(last is None or index > last[0], "audit entries are out of order")
        last = (index, one(fields, 9, b""))
        if text(fields, 6) == identity:
            found.add((text(fields, 4), one(fields, 8, b"")))
    for kind, of in wanted:
        need((kind, of) in found, f"no audit entry {kind} is about these bytes")
    print(f"audit: {len(entries)} entries, head {last[1].hex()}")
    print("everything holds")


if __name__ == "__main__":
    try:
        main()
    except (Wrong, KeyError, TypeError, ValueError, AttributeError) as wrong:
        print(f"does not hold: {wrong!r}" if not isinstance(wrong, Wrong) else f"does not hold: {wrong}", file=sys.stderr)
        sys.exit(1)
