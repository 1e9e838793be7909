"""What a TLS listener offers, by sslyze: TLS 1.3 alone, strong suites and groups, and nothing that made older versions weak.

usage: tls.py NAME HOST:PORT [KEY CHAIN]. Prints `metric: value` lines; exits 1 on a finding.
"""

import sys
from pathlib import Path

from sslyze import (
    ClientAuthenticationCredentials,
    ScanCommand,
    ScanCommandAttemptStatusEnum,
    Scanner,
    ServerNetworkConfiguration,
    ServerNetworkLocation,
    ServerScanRequest,
    ServerScanStatusEnum,
)

OLD = ["ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1", "tls_1_2"]
SUITES = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}
GROUPS = {"X25519", "secp256r1", "secp384r1"}
COMMANDS = {ScanCommand[f"{version.upper()}_CIPHER_SUITES"] for version in [*OLD, "tls_1_3"]} | {
    ScanCommand.TLS_COMPRESSION,
    ScanCommand.TLS_1_3_EARLY_DATA,
    ScanCommand.SESSION_RENEGOTIATION,
    ScanCommand.SESSION_RESUMPTION,
    ScanCommand.HEARTBLEED,
    ScanCommand.OPENSSL_CCS_INJECTION,
    ScanCommand.ROBOT,
    ScanCommand.ELLIPTIC_CURVES,
}


def main(name: str, address: str, *identity: str) -> int:
    host, port = address.rsplit(":", 1)
    credentials = None
    if identity:
        key, chain = map(Path, identity)
        credentials = ClientAuthenticationCredentials(certificate_chain_path=chain, key_path=key)
    configuration = ServerNetworkConfiguration(
        tls_server_name_indication="sfdata-hub", tls_client_auth_credentials=credentials
    )
    location = ServerNetworkLocation(hostname="sfdata-hub", port=int(port), ip_address=host)
    scanner = Scanner()
    # sslyze cannot try SSL 2.0 with a certificate; whether a version is spoken at all is told before one is asked for.
    bare = ServerNetworkConfiguration(tls_server_name_indication="sfdata-hub")
    oldest = {ScanCommand.SSL_2_0_CIPHER_SUITES}
    scans = [(configuration, COMMANDS - oldest), (bare, oldest)]
    requests = [ServerScanRequest(location, how, commands) for how, commands in scans]
    scanner.queue_scans(requests)
    results = {one.uuid: one for one in scanner.get_results()}
    scanned, oldest = (results[request.uuid] for request in requests)
    if scanned.scan_status is not ServerScanStatusEnum.COMPLETED or oldest.scan_status is not ServerScanStatusEnum.COMPLETED:
        print(f"FINDING at {name}: it cannot be scanned: {scanned.connectivity_error_trace}", file=sys.stderr)
        return 1

    findings = []

    def found(what: str, value: object, is_right: bool) -> None:
        print(f"tls_{name}_{what}: {value}")
        if not is_right:
            findings.append(f"{what} is {value}")

    def result(command: str):
        attempt = getattr((oldest if command.startswith("ssl_2") else scanned).scan_result, command)
        if attempt.status is not ScanCommandAttemptStatusEnum.COMPLETED:
            findings.append(f"{command} could not be tried: {attempt.error_reason} {attempt.error_trace}")
            return None
        return attempt.result

    for version in OLD:
        if suites := result(f"{version}_cipher_suites"):
            accepted = sorted(suite.cipher_suite.name for suite in suites.accepted_cipher_suites)
            found(version, " ".join(accepted) or "refused", not accepted)
    if suites := result("tls_1_3_cipher_suites"):
        accepted = {suite.cipher_suite.name for suite in suites.accepted_cipher_suites}
        found("tls_1_3", " ".join(sorted(accepted)), bool(accepted) and accepted <= SUITES)
    if groups := result("elliptic_curves"):
        accepted = {group.name for group in groups.supported_curves or []}
        found("groups", " ".join(sorted(accepted)), bool(accepted) and accepted <= GROUPS)
    for command, field, label in [
        ("tls_compression", "supports_compression", "compression"),
        ("tls_1_3_early_data", "supports_early_data", "early_data"),
        ("heartbleed", "is_vulnerable_to_heartbleed", "heartbleed"),
        ("openssl_ccs_injection", "is_vulnerable_to_ccs_injection", "ccs_injection"),
        ("session_renegotiation", "is_vulnerable_to_client_renegotiation_dos", "renegotiation"),
    ]:
        if answer := result(command):
            has = getattr(answer, field)
            found(label, "yes" if has else "no", not has)
    if robot := result("robot"):
        found("robot", robot.robot_result.name.lower(), robot.robot_result.name.startswith("NOT_VULNERABLE"))
    if resumption := result("session_resumption"):
        for field in ["session_id_resumption_result", "tls_ticket_resumption_result"]:
            found(field.removesuffix("_result"), getattr(resumption, field).name.lower(),
                  getattr(resumption, field).name in {"NOT_SUPPORTED", "SERVER_IS_TLS_1_3_ONLY"})

    for finding in findings:
        print(f"FINDING at {name}: {finding}", file=sys.stderr)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
