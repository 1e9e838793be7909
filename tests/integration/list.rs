//! The real `hubctl agents list` of a whole region: what it prints, and what it costs a slow link.

use std::time::Duration;

use sfdata_common::trust::Role;
use sfdata_proto::v1 as wire;
use sfdata_tests::{crowd::Crowd, eventually, fleet::Fleet, process::outcome, web, wire::Wire};

const SOON: Duration = Duration::from_secs(60);
const LAS: usize = 320;

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_320_is_packed_on_its_way() {
    let mut fleet = Fleet::without_aws(0).await;
    let home = web::join(&mut fleet, "vera", Role::Viewer).await.unwrap();
    let _crowd = Crowd::join(&mut fleet, LAS).await.unwrap();
    let plain = eventually("all have reported", SOON, async || {
        let list = fleet.alice.client.clone().list_agents(wire::ListAgentsRequest {}).await.ok()?.into_inner();
        let told = list.agents.iter().all(|agent| agent.health.as_ref().is_some_and(|health| health.runs.is_some()));
        told.then(|| prost::Message::encoded_len(&list) as u64)
    })
    .await;
    let cable = Wire::to(fleet.hub_config.listen.address).await.unwrap();
    let address = cable.address.to_string();
    let (code, out, said) = outcome("hubctl", &["--home", &home, "--hub", &address, "agents", "list"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(out.lines().filter(|line| line.starts_with("council-")).count(), LAS, "{out}");
    let carried = cable.answered();
    assert!(carried < plain / 4, "{carried} bytes came for {plain}");
    fleet.stop().await;
}
