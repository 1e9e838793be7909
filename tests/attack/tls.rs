//! TLS at both listeners of a real hub: a scan by sslyze of what they offer, and knocks with certificates that must not open.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use arc_swap::ArcSwap;
use rcgen::{CertificateParams, KeyPair, SanType};
use sfdata_common::{
    Timestamp,
    channel::SharedTls,
    peer::Subject,
    tls::{self, Identity, Knows, TlsKey},
};
use sfdata_hub::enrol::authority::Authority;
use sfdata_tests::h2;
use tokio::{io::AsyncWriteExt as _, time::timeout};

use crate::{
    estate::{Estate, TRUST_DOMAIN},
    hub::Hub,
    numbers::{say, show},
    operator::Operator,
    process,
};

const HOUR: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_secs(10);
const SCAN: Duration = Duration::from_secs(300);
const LIST: &str = "/sfdata.v1.OperatorService/ListAgents";
/// In the estate: one that works, and one that is locked.
const AGENTS: usize = 2;

/// Look at both listeners.
pub(super) async fn check(folder: &Path, python: &Path) -> Result<()> {
    ensure!(
        python.exists(),
        "{} is missing; tests/attack/run makes it (python3 -m venv, pip install -r tests/attack/requirements.txt)",
        python.display()
    );
    let estate = Estate::new(folder, AGENTS).await?;
    let _hub = Hub::start(&estate).await?;
    let mut findings = Box::pin(knock(&estate)).await?;
    findings += Box::pin(resumption(&estate)).await?;
    show("tls_certificate_findings", findings);
    findings += scan(&estate, python).await?;
    ensure!(findings == 0, "{findings} findings in TLS");
    Ok(())
}

/// sslyze, with an operator's certificate where one is asked for. Gives the number of findings.
async fn scan(estate: &Estate, python: &Path) -> Result<usize> {
    let key = TlsKey::generate()?;
    let subject = Subject::Operator(estate.operator.clone());
    let chain = estate.authority.issue(&key.request()?, &subject, HOUR, Timestamp::now())?;
    let (key_file, chain_file) = (estate.folder().join("key.pem"), estate.folder().join("chain.pem"));
    fs::write(&key_file, key.to_pem().as_str())?;
    fs::write(&chain_file, tls::certificates_to_pem(&chain))?;
    let mut findings = 0;
    for (name, address) in [("authenticated", estate.address), ("enrolment", estate.enrol)] {
        let mut command = Command::new(python);
        command.args(["tests/attack/tls.py", name, &address.to_string()]);
        if name == "authenticated" {
            command.args([&key_file, &chain_file]);
        }
        let output = process::finish(command, SCAN).await?.context("the scan hangs")?;
        let (told, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        told.lines().filter_map(|line| line.split_once(": ")).for_each(|(metric, value)| show(metric, value));
        said.lines().for_each(|line| say(format_args!("{line}")));
        findings += usize::from(!output.status.success());
    }
    Ok(findings)
}

/// Tickets by which a session could be taken up again without a look at the certificate: sslyze does not look for those of
/// TLS 1.3. A hub that gives some sends them after the handshake, before its first answer.
async fn resumption(estate: &Estate) -> Result<usize> {
    let key = TlsKey::generate()?;
    let subject = Subject::Operator(estate.operator.clone());
    let chain = estate.authority.issue(&key.request()?, &subject, HOUR, Timestamp::now())?;
    let identity = Identity::new(chain, &key)?;
    let mut findings = 0;
    for (name, address, identity) in
        [("authenticated", estate.address, Some(&identity)), ("enrolment", estate.enrol, None)]
    {
        let mut stream = h2::connect(Ipv4Addr::LOCALHOST, address, &client(estate, identity)?).await?;
        stream.write_all(&h2::opening()).await?;
        stream.flush().await?;
        timeout(SOON, h2::read_frame(&mut stream)).await.context("the hub says nothing")??;
        let tickets = stream.get_ref().1.tls13_tickets_received();
        show(&format!("tls_{name}_tickets"), tickets);
        if tickets > 0 {
            say(format_args!("FINDING: the {name} listener gives tickets to resume a session with"));
            findings += 1;
        }
    }
    Ok(findings)
}

/// A client's TLS with this certificate; the hub is who it should be.
fn client(estate: &Estate, identity: Option<&Identity>) -> Result<SharedTls> {
    let certificates = &estate.bundle.ca_certificates[..];
    let knows = Knows::Cas { certificates, trust_domain: TRUST_DOMAIN };
    Ok(Arc::new(ArcSwap::new(tls::client(identity, knows)?)))
}

/// Whether a request is answered on a connection with this certificate. With TLS 1.3 a client has shaken hands before the
/// hub has seen its certificate, so that only an answer tells.
async fn is_let_in(address: SocketAddr, tls: &SharedTls) -> bool {
    let asked = async {
        let stream = h2::connect(Ipv4Addr::LOCALHOST, address, tls).await?;
        h2::exchange(stream, &[(LIST, h2::message(&[]))]).await
    };
    matches!(timeout(SOON, asked).await, Ok(Ok(1)))
}

/// Certificates at the authenticated listener, each by what is wrong with it. Gives the number that should not have opened.
async fn knock(estate: &Estate) -> Result<usize> {
    let now = Timestamp::now();
    let agent = |at: usize| estate.agents.get(at).cloned().map(Subject::Agent).context("no agent");
    let (good, locked) = (agent(0)?, agent(1)?);
    let issued = |by: &Authority, subject: &Subject, lifetime: Duration, at: Timestamp| {
        let key = TlsKey::generate()?;
        anyhow::Ok(Identity::new(by.issue(&key.request()?, subject, lifetime, at)?, &key)?)
    };
    let ours = &*estate.authority;
    ensure!(
        is_let_in(estate.address, &client(estate, Some(&issued(ours, &locked, HOUR, now)?))?).await,
        "a good certificate is not let in, so that nothing can be said of bad ones"
    );
    if let Subject::Agent(id) = &locked {
        Operator::new(estate)?.lock(id).await?;
    }

    let folder = tempfile::tempdir()?;
    let stranger = Authority::create(folder.path(), TRUST_DOMAIN, now)?;
    let elsewhere = Authority::open(&estate.hub_keys(), "other.example")?;
    let short = Duration::from_secs(50);
    let bad = [
        ("self_signed", self_signed(&good)?),
        ("of_another_ca", issued(&stranger, &good, HOUR, now)?),
        ("of_another_trust_domain", issued(&elsewhere, &good, HOUR, now)?),
        ("expired", issued(ours, &good, short, now - 2 * short)?),
        ("not_yet_valid", issued(ours, &good, HOUR, now + 24 * HOUR)?),
        ("of_a_server", issued(ours, &Subject::Hub("core".into()), HOUR, now)?),
        ("of_an_unknown_agent", issued(ours, &Subject::Agent("nobody".parse()?), HOUR, now)?),
        ("of_an_unknown_operator", issued(ours, &Subject::Operator("mallory".parse()?), HOUR, now)?),
        ("of_a_locked_agent", issued(ours, &locked, HOUR, now)?),
    ];
    let mut findings = 0;
    let mut told = |name: &str, opened: bool| {
        show(&format!("tls_certificate_{name}"), if opened { "LET IN" } else { "refused" });
        if opened {
            say(format_args!("FINDING: the authenticated listener lets in a certificate {name}"));
            findings += 1;
        }
    };
    told("none", is_let_in(estate.address, &client(estate, None)?).await);
    for (name, identity) in &bad {
        told(name, is_let_in(estate.address, &client(estate, Some(identity))?).await);
    }
    // Nothing but enrolment is served where nobody has to show a certificate, whatever they show.
    let operator = issued(ours, &Subject::Operator(estate.operator.clone()), HOUR, now)?;
    for (name, identity) in [("enrolment_without", None), ("enrolment_with_an_operators", Some(&operator))] {
        let tls = client(estate, identity)?;
        let served = serves_operators(estate.enrol, &tls).await?;
        told(name, served);
    }
    Ok(findings)
}

/// Whether the operators' service is there, by its gRPC status: a trailer alone says that it is not.
async fn serves_operators(address: SocketAddr, tls: &SharedTls) -> Result<bool> {
    let channel = sfdata_common::channel::open(&address.to_string(), Arc::clone(tls));
    let answer = timeout(SOON, sfdata_tests::raw::call(&channel, LIST, bytes::Bytes::new())).await?;
    Ok(!matches!(answer, Err(status) if status.code() == tonic::Code::Unimplemented))
}

/// A certificate with the right name that nobody but its holder vouches for.
fn self_signed(subject: &Subject) -> Result<Identity> {
    let key = TlsKey::generate()?;
    let pair = KeyPair::from_pem(&key.to_pem())?;
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(subject.uri(TRUST_DOMAIN).try_into()?)];
    Ok(Identity::new(vec![params.self_signed(&pair)?.der().to_vec()], &key)?)
}
